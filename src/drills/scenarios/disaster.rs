//! Everything is lost but the store of backups.

use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;

use super::{
    Scenario, Text, Workload,
    fault::{Fault, FaultStep, RunContext, Setup},
};
use crate::{
    drills::{
        actions::{
            loss::{self, RecordedDatabase},
            restore::{self, LostDatabase},
            volumes,
        },
        model::{
            expectation::{Expectation, Loss},
            history::Stream,
            requirement::Requirement,
        },
        undo::Undo,
    },
    names::DATABASE,
};

/// The time before the fault from which writes may be lost: a segment of the WAL is archived after 10 s at the latest
/// (`archive_timeout` in `assets/database/cluster.yaml`); the margin is for sending it.
const MAX_DATA_LOSS: Duration = Duration::from_secs(10 + 5);
/// The time of writes before the fault: older ones than may be lost must be among them.
const BEFORE: Duration = Duration::from_secs(20);

pub static DISASTER: Scenario = Scenario {
    id: "disaster",
    text: Text {
        title: "Every instance and every volume is lost",
        does: "deletes all instances with their volumes at a random point of the archive's interval, restores the latest \
               moment from the store of backups into a new database, and has the app use it",
        must: "nothing is lost that was acknowledged earlier than 10 s (the archive's interval) and 5 s before; the \
               app goes on",
        undone: "by the restore: the app goes on with the new database, what is left of the lost one is removed",
    },
    requires: Requirement::Backups,
    // SQL clients would have to be told the new database's name; the app is.
    workload: Workload { streams: &[Stream::Http], ..Workload::DEFAULT },
    expect: Expectation { loss: Loss::AtMost(MAX_DATA_LOSS), ..Expectation::DEFAULT },
    fault: &Disaster,
};

struct Disaster;

impl Fault for Disaster {
    fn prepare<'a>(&'a self, setup: &'a mut Setup<'_>) -> FaultStep<'a> {
        Box::pin(restore::ensure_backed_up(setup.target))
    }

    fn undo_plan<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a, Vec<Undo>> {
        Box::pin(async move {
            let (lost, name) = (run.target.database.get(), restored_name(run.run));
            Ok(vec![Undo::Restore { lost, name, recorded: Some(loss::record(run.target).await?), begun: false }])
        })
    }

    fn inject<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            // Anywhere between two segments of the WAL: what is lost depends on it.
            let anywhere = Timestamp::now().as_millisecond().rem_euclid(10_000).unsigned_abs();
            tokio::time::sleep(BEFORE + Duration::from_millis(anywhere)).await;
            let instances: Vec<&str> = run.standbys.iter().chain([&run.primary]).map(String::as_str).collect();
            let plan = run.plan().await;
            let recorded = recorded(&plan).context("the volumes were not recorded")?;
            run.record_deletion().await?;
            run.mark_injection(format!("{} instances deleted with their volumes", instances.len()));
            volumes::destroy_all(run.target, &instances, &recorded.volumes).await
        })
    }

    fn hold<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            let (database, name, plan) = (run.target.database.get(), restored_name(run.run), run.plan().await);
            let lost = LostDatabase { database: &database, name: &name, recorded: recorded(&plan), begun: true };
            restore::restore(run.target, run.config(), &lost, &|step| run.note(step)).await
        })
    }
}

/// The database with its volumes, as the plan has recorded it.
fn recorded(plan: &[Undo]) -> Option<&RecordedDatabase> {
    plan.iter().find_map(|change| match change {
        Undo::Restore { recorded, .. } => recorded.as_ref(),
        _ => None,
    })
}

/// The new database's name, from the run's, which begins with its date and time.
fn restored_name(run: &str) -> String {
    format!("{DATABASE}-{}", run.chars().take("20261124-110000".len()).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_database_is_named_after_the_run() {
        assert_eq!(restored_name("20261124-142233-disaster"), "user-db-20261124-142233");
    }
}
