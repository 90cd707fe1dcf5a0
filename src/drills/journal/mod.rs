//! The record of a running drill: whoever comes after a crash finds there what is to be undone.
//!
//! It is written before the fault and removed after everything is as it was, in two places: in the cluster, for
//! whoever comes next, and on this machine, as the fault may be that the API server is down.

mod cluster;
mod local;

use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

pub use local::LocalJournal;

use super::{
    final_state,
    preconditions::{count_streaming_standbys, quorum_is_known},
    prober::pod,
    target::DrillTarget,
    undo::{self, Undo, undo_latest_first},
};
use crate::{
    config::Config,
    database::settings,
    error::{Result, failed},
    poll::until_ok,
    ui::{Event, PhaseId, Reporter},
};

/// The time for which undoing is tried: the API server may be away.
const PATIENCE: Duration = Duration::from_secs(90);
/// The time within which a server that is there tells which cluster it is.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// The time that a reload takes to be seen.
const AFTER_A_RELOAD: Duration = Duration::from_secs(5);
/// The time between one try and the next.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// The record of a drill. Another version may have written it: names and fields stay as they are, and
/// `tests/compat` holds them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillRecord {
    /// The run's name.
    pub run: String,
    /// The scenario's id.
    pub scenario: String,
    /// The changes that are to be undone, the latest last.
    pub undo: Vec<Undo>,
}

/// The two places of a drill's record.
#[derive(Clone)]
pub struct Journal {
    /// The stack that is drilled.
    pub target: DrillTarget,
    /// The configuration of the command: a lost database is restored by it.
    pub config: Config,
    /// The place on this machine.
    pub local: LocalJournal,
    /// The reporter that is told what is being undone.
    pub reporter: Reporter,
}

impl Journal {
    /// Writes the record, before anything is changed.
    ///
    /// # Errors
    /// There is one already, or the API's refusal.
    pub async fn begin(&self, record: &DrillRecord) -> Result<()> {
        self.local.write(&cluster::uid(&self.target).await?, record)?;
        cluster::create(&self.target, record).await
    }

    /// Writes down what else is to be undone, before it is done.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn add(&self, record: &mut DrillRecord, changes: impl IntoIterator<Item = Undo>) -> Result<()> {
        record.undo.extend(changes);
        self.local.write(&cluster::uid(&self.target).await?, record)?;
        cluster::update(&self.target, record).await
    }

    /// Writes down that what is to be undone by a failover or a restore is about to be deleted: right before it is.
    ///
    /// # Errors
    /// As [`Journal::add`]; then nothing may be deleted.
    pub async fn mark_begun(&self, record: &mut DrillRecord) -> Result<()> {
        let mut marked = false;
        for change in &mut record.undo {
            marked |= change.mark_begun();
        }
        if marked { self.add(record, []).await } else { Ok(()) }
    }

    /// Reads the record in the cluster, if there is one.
    ///
    /// # Errors
    /// The API's refusal; a record that can't be read.
    pub async fn read(&self) -> Result<Option<DrillRecord>> {
        cluster::read(&self.target).await
    }

    /// Undoes one change.
    ///
    /// # Errors
    /// As [`undo::undo`].
    pub async fn undo(&self, change: &Undo) -> Result<()> {
        undo::undo(&self.target, &self.config, change).await
    }

    /// Undoes every change of a record, the latest first.
    ///
    /// # Errors
    /// As [`undo::undo`].
    pub async fn undo_changes(&self, record: &DrillRecord) -> Result<()> {
        let undo_one = async |change: &Undo| {
            let text = format!("undoing: {}", change.describe());
            self.reporter.send(Event::Doing { phase: PhaseId::Drill, text });
            self.undo(change).await.with_context(|| format!("not undone yet: {}", change.describe()))
        };
        undo_latest_first(&record.undo, undo_one, || {}).await
    }

    /// Undoes what a drill has left behind, and removes its rows, its prober and its record, which is returned.
    /// `None`: there was nothing.
    ///
    /// # Errors
    /// What can't be undone within 90 s; the record stays, so that the next drill tries again.
    pub async fn recover(&self) -> Result<Option<DrillRecord>> {
        // Of a cluster that was made anew under the same name nothing is known, and nothing there is touched.
        if let Ok(Ok(uid)) = tokio::time::timeout(ANSWERS_WITHIN, cluster::uid(&self.target)).await
            && let Some(aside) = self.local.set_aside_if_of_another(&uid)?
        {
            let text =
                format!("the record of a drill on another cluster is not applied to this one: {}", aside.display());
            self.reporter.send(Event::Warning { phase: PhaseId::Drill, text });
        }
        // First what may be the reason why the API does not answer.
        let found = if self.local.undo_without_api_server().await? {
            let late = "the record of the drill can't be looked for";
            until_ok(PATIENCE, TRY_EVERY, late, || async { self.read().await }).await?
        } else {
            self.read().await?
        };
        let Some(record) = found else {
            self.local.remove()?;
            return Ok(None);
        };
        let patience = if record.undo.iter().any(Undo::is_slow) { PATIENCE * 5 } else { PATIENCE };
        let cleared =
            until_ok(patience, TRY_EVERY, "not everything is undone", || async { self.clear(&record).await }).await;
        cleared.map_err(|error| {
            failed(format!("the drill {} can't be undone: {error:#}", record.run))
                .remedy("stackctl failover-drill tries again before it does anything else")
        })?;
        cluster::remove(&self.target).await?;
        self.local.remove()?;
        Ok(Some(record))
    }

    /// Checks that what was undone has had its effect: that it was asked for is not enough. An instance that has not read
    /// its files again is made to.
    async fn check_effects(&self, record: &DrillRecord) -> Result<()> {
        let asked = |wanted: fn(&Undo) -> bool| record.undo.iter().any(wanted);
        if !asked(|change| matches!(change, Undo::Synchronous { .. } | Undo::Unfence)) {
            return Ok(());
        }
        let target = &self.target;
        let (status, database) = (target.status().await?, target.database.get());
        let primary = status.settled_primary().context("the database has no primary that stays")?.to_owned();
        let streaming = count_streaming_standbys(target, &primary).await?;
        let known = quorum_is_known(target, &primary).await?;
        if streaming + 1 == status.wanted && known {
            return Ok(());
        }
        let (kube, namespace) = (&target.kube, &target.namespace);
        let stale = settings::reload_stale(kube, namespace, &database).await?;
        let missed = stale.is_empty() && streaming + 1 == status.wanted && !known;
        if missed {
            settings::refresh(kube, namespace, &database, &primary).await?;
        }
        if missed || !stale.is_empty() {
            // It takes a moment; the next look is after it.
            tokio::time::sleep(AFTER_A_RELOAD).await;
        }
        let why = if known { "" } else { ", and the operator does not know which confirm commits" };
        Err(failed(format!("{streaming} of {} standbys stream and confirm commits{why}", status.wanted - 1)).into())
    }

    /// Undoes everything, and removes the prober and the rows.
    async fn clear(&self, record: &DrillRecord) -> Result<()> {
        self.undo_changes(record).await?;
        self.check_effects(record).await?;
        pod::delete(&self.target).await?;
        let primary = self.target.primary().await?;
        final_state::delete_rows(&self.target, &primary, &record.run).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_8b80009_is_read_and_written_as_it_was() {
        let text = include_str!("../../../tests/compat/8b80009/drill-record.json");
        let record: DrillRecord = serde_json::from_str(text).unwrap();
        assert_eq!((record.run.as_str(), record.scenario.as_str()), ("20261128-061500-control", "control"));
        assert_eq!(record.undo.len(), 12, "one of each kind");
        assert_eq!(record.undo[3], Undo::ForceFailover { from: "user-db-1".into(), recorded: None, begun: false });
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
    }
}
