//! What a fault is: the four steps of one, and what it works with.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::future::LocalBoxFuture;

use crate::{
    config::Config,
    drills::{
        journal::{DrillRecord, Journal},
        model::{events::EventKind, report::Criterion, requirement::ClusterCapabilities},
        observer::{Observer, wait},
        target::DrillTarget,
        undo::Undo,
    },
    error::Result,
};

/// A step of a fault.
pub type FaultStep<'a, T = ()> = LocalBoxFuture<'a, Result<T>>;

/// A way to break a stack. The runner takes the steps in their order.
pub trait Fault: Sync {
    /// Brings the stack into the state in which the fault is to meet it, before the writes begin.
    fn prepare<'a>(&'a self, _: &'a mut Setup<'_>) -> FaultStep<'a> {
        Box::pin(async move { Ok(()) })
    }

    /// Decides what will have to be undone of the fault; it is recorded before the fault is put in.
    fn undo_plan<'a>(&'a self, _: &'a RunContext<'_>) -> FaultStep<'a, Vec<Undo>> {
        Box::pin(async move { Ok(Vec::new()) })
    }

    /// Breaks the stack. Times are counted from when [`RunContext::mark_injection`] is called first.
    fn inject<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a>;

    /// Goes on after the fault is in, until it may be undone.
    fn hold<'a>(&'a self, _: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(async move { Ok(()) })
    }
}

/// The state of a run before the writes begin.
pub struct Setup<'a> {
    /// The stack.
    pub target: &'a DrillTarget,
    /// The capabilities of the cluster.
    pub cluster: &'a ClusterCapabilities,
    /// The journal that keeps the run's record.
    pub journal: &'a Journal,
    /// The run's record.
    pub record: DrillRecord,
}

impl Setup<'_> {
    /// Writes down what is to be undone, before it is done.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn record_undo(&mut self, change: Undo) -> Result<()> {
        self.journal.add(&mut self.record, [change]).await
    }
}

/// The state of a run while the writes flow, as a fault sees it.
pub struct RunContext<'a> {
    /// The run's name.
    pub run: &'a str,
    /// The stack.
    pub target: &'a DrillTarget,
    /// The capabilities of the cluster.
    pub cluster: &'a ClusterCapabilities,
    /// The primary before the fault.
    pub primary: String,
    /// The primary's node.
    pub node: String,
    /// The standbys before the fault.
    pub standbys: Vec<String>,
    journal: &'a Journal,
    record: tokio::sync::Mutex<DrillRecord>,
    /// How many changes were recorded before the plan.
    prepared: usize,
    observer: &'a Observer,
    findings: Mutex<Vec<Criterion>>,
}

impl<'a> RunContext<'a> {
    /// The context of a run on a healthy stack.
    pub fn new(
        setup: Setup<'a>,
        run: &'a str,
        observer: &'a Observer,
        (primary, node): (String, String),
        standbys: Vec<String>,
    ) -> RunContext<'a> {
        let Setup { target, cluster, journal, record } = setup;
        let (prepared, record) = (record.undo.len(), tokio::sync::Mutex::new(record));
        let findings = Mutex::default();
        RunContext { run, target, cluster, primary, node, standbys, journal, record, prepared, observer, findings }
    }

    /// Writes down what is to be undone of the fault, before it is put in.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn record_plan(&self, changes: Vec<Undo>) -> Result<()> {
        self.journal.add(&mut *self.record.lock().await, changes).await
    }

    /// The instances' pods by their names, with their UIDs, as the watches told last.
    pub fn instances(&self) -> BTreeMap<String, String> {
        self.observer.seen.borrow().pods.iter().map(|(name, (uid, _))| (name.clone(), uid.clone())).collect()
    }

    /// Lists what is to be undone of the fault, as it is recorded now.
    pub async fn plan(&self) -> Vec<Undo> {
        self.record.lock().await.undo.iter().skip(self.prepared).cloned().collect()
    }

    /// Writes down that the deletion begins which is to be undone: right before it does.
    ///
    /// # Errors
    /// As [`RunContext::record_plan`]; then nothing may be deleted.
    pub async fn record_deletion(&self) -> Result<()> {
        self.journal.mark_begun(&mut *self.record.lock().await).await
    }

    /// Marks the moment of the fault, in words: right before the call that breaks the stack, as recovery is measured from
    /// then on. The first call counts, any other does nothing.
    pub fn mark_injection(&self, what: impl Into<String>) {
        self.observer.note(EventKind::Injected, what);
    }

    /// Notes what else explains the run.
    pub fn note(&self, text: impl Into<String>) {
        self.observer.note(EventKind::Note, text);
    }

    /// Adds what the fault itself has checked to what must hold.
    pub fn found(&self, name: &str, ok: bool, detail: impl Into<String>) {
        let criterion = Criterion { name: name.into(), ok, detail: detail.into() };
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).push(criterion);
    }

    /// The criteria that the fault itself has checked.
    pub fn findings(&self) -> Vec<Criterion> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The configuration of the command.
    pub fn config(&self) -> &Config {
        &self.journal.config
    }

    /// Waits until another instance is the primary; returns whether one is.
    pub async fn wait_for_failover(&self, limit: Duration) -> bool {
        let mut seen = self.observer.seen.clone();
        wait(&mut seen, limit, |now| now.cluster.current_primary.as_ref().is_some_and(|now| *now != self.primary)).await
    }
}
