//! Everything is lost but the store of backups.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::DeleteParams;

use super::{COMMON, Scenario, Scene, Stage};
use crate::{
    backup::{
        Store, Target, promotion,
        recovery::{self, Order},
    },
    context::Context,
    database::{CLUSTER, reference},
    drills::{
        model::events::Kind,
        model::history::Stream,
        model::requirement::Needs,
        target::{BACKUP_WITHIN, Stack, text},
        undo::Undo,
    },
    error::Result,
    ui::Reporter,
};

/// A segment of the log is archived after a minute at the latest (`archive_timeout` in `assets/database/cluster.yaml`);
/// the margin is for sending it.
const MAY_BE_LOST: Duration = Duration::from_secs(60 + 5);
/// Writes before the fault: older ones than may be lost must be among them.
const BEFORE: Duration = Duration::from_secs(70);
/// How long the restore may take, with the change of the app to the new database.
const BACK_WITHIN: Duration = Duration::from_secs(600);
/// The phase's id in events, which nobody reads here.
const PHASE: &str = "drill";

pub static DISASTER: Scenario = Scenario {
    id: "disaster",
    title: "Every instance and every volume is lost",
    does: "deletes all instances with their volumes at a random point of the archive's interval, restores the latest \
           moment from the store of backups into a new database, and has the app use it",
    must: "nothing is lost that was acknowledged earlier than a minute (the archive's interval) and 5 s before; the app \
           goes on",
    undone: "by the restore: the app goes on with the new database, what is left of the lost one is removed",
    needs: Needs::Backups,
    // SQL clients would have to be told the new database's name; the app is.
    streams: &[Stream::Http],
    loses: Some(MAY_BE_LOST),
    prepare: |stage| Box::pin(backed_up(stage)),
    undo: |s| Box::pin(async { Ok(vec![Undo::Restore { lost: s.stack.database.get(), name: restored_name(s.run) }]) }),
    inject: |s| Box::pin(lose_everything(s)),
    then: |s| Box::pin(restore(s)),
    ..COMMON
};

/// The new database's name, from the run's, which begins with its date and time.
fn restored_name(run: &str) -> String {
    format!("{CLUSTER}-{}", run.chars().take("20261124-110000".len()).collect::<String>())
}

/// Makes sure that there is a base backup to start from, and all the log since.
async fn backed_up(stage: &Stage<'_>) -> Result<()> {
    let stack = stage.stack;
    let store = Store::required(&stack.kube, &stack.namespace).await?;
    let catalog = store.catalog(&stack.kube, &stack.namespace, Instant::now() + BACKUP_WITHIN).await?;
    let server = catalog.servers.get(&stack.database.get());
    if server.is_some_and(|server| server.first_moment().is_some() && server.gap() == 0) {
        return Ok(());
    }
    stack.back_up().await.context("there is no base backup to restore from, and none can be taken")
}

async fn lose_everything(scene: &Scene<'_>) -> Result<String> {
    // Anywhere between two segments of the log: what is lost depends on it.
    let anywhere = Timestamp::now().as_millisecond().rem_euclid(60_000).unsigned_abs();
    tokio::time::sleep(BEFORE + Duration::from_millis(anywhere)).await;
    let instances: Vec<&String> = scene.standbys.iter().chain([&scene.primary]).collect();
    let what = format!("{} instances deleted with their volumes", instances.len());
    scene.observer.note(Kind::Injected, &what);
    let (claims, pods) = (scene.stack.api::<PersistentVolumeClaim>(), scene.stack.api::<Pod>());
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    let claim = DeleteParams::default();
    try_join_all(instances.iter().map(|name| claims.delete(name, &claim))).await.context("cannot delete the claims")?;
    try_join_all(instances.iter().map(|name| pods.delete(name, &at_once))).await.context("cannot delete the pods")?;
    Ok(what)
}

async fn restore(scene: &Scene<'_>) -> Result<()> {
    let note = |text| scene.observer.note(Kind::Note, text);
    bring_back(scene.stack, &scene.stack.database.get(), &restored_name(scene.run), &note).await
}

/// Restores the latest moment of `lost` into the Cluster `name` and has the app use it, as the command `restore` does;
/// removes what is left of `lost`. What is done already is not done again: it is also what undoes a drill that was
/// interrupted. `note` is told each step.
///
/// # Errors
/// The store holds nothing to restore, or a step does not end in time.
pub async fn bring_back(stack: &Stack, lost: &str, name: &str, note: &(dyn Fn(String) + Send + Sync)) -> Result<()> {
    let cx = Context::new(stack.config.clone(), Reporter::discard())?;
    let deadline = Instant::now() + BACK_WITHIN;
    stack.database.set(cx.database().await?);
    if stack.database.get() == lost && serves(stack).await {
        // The fault had not come yet.
        return Ok(());
    }
    let (kube, namespace) = (cx.kube().await?, &cx.config.stack.namespace);
    if kube.get(&reference(namespace, name)).await?.is_none() {
        note(format!("restoring the latest moment into {name}"));
        let order = Order {
            target: Target::Latest,
            server: Some(lost.to_owned()),
            name: name.to_owned(),
            instances: None,
            archives: true,
            deadline,
        };
        let recovered = recovery::restore(&cx, PHASE, &order).await?;
        note(format!("restored: every instance is ready {:.0} s after it was asked for", recovered.as_secs_f64()));
    }
    let promoted = promotion::promote(&cx, PHASE, name, deadline).await?;
    note(format!("the app uses {name}, {:.0} s after it was told to", promoted.paused.as_secs_f64()));
    stack.database.set(name);
    recovery::discard(&cx, PHASE, lost, deadline).await
}

/// Whether the database has instances: at least one answers.
async fn serves(stack: &Stack) -> bool {
    let Ok(cluster) = stack.cluster().await else { return false };
    let primary = text(&cluster, "/status/currentPrimary").to_owned();
    stack.psql(&primary, "SELECT 1").await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_database_is_named_after_the_run() {
        assert_eq!(restored_name("20261124-142233-disaster"), "user-db-20261124-142233");
    }
}
