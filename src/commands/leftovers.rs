//! What an interrupted drill has left, undone before another command changes the stack.

use futures::future::LocalBoxFuture;

use crate::{
    context::Context,
    drills::{
        journal::{Journal, LocalJournal},
        target::{CurrentDatabase, DrillTarget},
    },
    error::Result,
    leftovers::Leftovers,
    ui::{Event, PhaseId},
};

/// Undoes what an interrupted drill has left; takes the stack's lock for it, which stays taken. Nothing is done where no
/// cluster answers yet, or no record is there.
///
/// # Errors
/// Somebody else holds the lock, or it can't be undone.
pub async fn undo_first(cx: &Context) -> Result<()> {
    // A cluster that is not there or does not answer is told by the command's own steps, in better words.
    let (Ok(kube), Ok(database)) = (cx.kube().await, cx.database().await) else { return Ok(()) };
    let namespace = &cx.config.stack.namespace;
    if !Leftovers::read(kube, namespace, &database).await.is_ok_and(|left| left.drill.is_some()) {
        return Ok(());
    }
    undo(cx).await
}

/// The same, asked for when the lock is taken: `up` takes it in any case.
pub fn undo_under_lock(cx: &Context) -> LocalBoxFuture<'_, Result<()>> {
    Box::pin(undo(cx))
}

async fn undo(cx: &Context) -> Result<()> {
    cx.lock().await?;
    let (kube, namespace) = (cx.kube().await?, &cx.config.stack.namespace);
    // Under the lock it may be another one.
    let database = CurrentDatabase::new(cx.database().await?);
    let target = DrillTarget { kube: kube.clone(), namespace: namespace.clone(), database };
    let local = LocalJournal::new(&cx.config.folders.state, cx.config.target.context());
    let journal = Journal { target, config: cx.config.clone(), local, reporter: cx.reporter.clone() };
    if let Some(left) = Box::pin(journal.recover()).await? {
        // What is undone may have given the app another database: going by the former one would make an empty one of its name.
        cx.inventory().await?.reload().await?;
        let text = format!("what the interrupted drill {} had left was undone", left.run);
        cx.reporter.send(Event::Warning { phase: PhaseId::Drill, text });
    }
    Ok(())
}
