//! The negative control: a checker that never found anything proves nothing.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::{
    Scenario, Text, Workload,
    fault::{Fault, FaultStep, RunContext},
    storage::destroy_primary,
};
use crate::{
    drills::{
        actions::{
            loss::record_volume,
            postgres,
            switchover::{LostPrimary, force_failover},
            wait_until,
        },
        model::{
            expectation::{Expectation, Loss, PrimaryRole},
            requirement::Requirement,
        },
        undo::Undo,
    },
    error::Result,
    poll::until_ok,
};

/// How long the primary stands still at most, should its pod not be deleted.
const STANDS_STILL: Duration = Duration::from_secs(60);
/// How long writes are acknowledged by the primary alone: shorter than the interval by which WAL is archived.
const ALONE: Duration = Duration::from_secs(3);
/// How long a standby may take to take over, the time included in which the operator refuses it.
const TAKEN_OVER: Duration = Duration::from_secs(120);
/// How long a setting may take to have its effect.
const IN_EFFECT: Duration = Duration::from_secs(60);

pub static CONTROL: Scenario = Scenario {
    id: "control",
    text: Text {
        title: "Negative control: a loss that must be found",
        does: "turns synchronous replication off, stops the standbys, goes on writing, then halts the primary, destroys \
               its volume and lets a standby take over",
        must: "acknowledged writes are lost, and the checker finds it",
        undone: "a standby takes over, synchronous replication is turned on again, the standbys run again",
    },
    requires: Requirement::Nothing,
    workload: Workload::DEFAULT,
    expect: Expectation {
        primary: PrimaryRole::Moves,
        loss: Loss::MustBeFound,
        loses_wal: true,
        ..Expectation::DEFAULT
    },
    fault: &Control,
};

struct Control;

impl Fault for Control {
    fn undo_plan<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a, Vec<Undo>> {
        Box::pin(async move {
            let cluster = run.target.cluster().await?;
            let value = cluster.data.pointer("/spec/postgresql/synchronous").cloned();
            let value = value.context("it is not synchronous")?;
            let recorded = Some(record_volume(run.target, &run.primary).await?);
            let failover = Undo::ForceFailover { from: run.primary.clone(), recorded, begun: false };
            Ok(vec![Undo::Synchronous { value }, Undo::Unfence, failover, Undo::Continue])
        })
    }

    fn inject<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(weaken_and_destroy(run))
    }

    fn hold<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(fail_over(run))
    }
}

/// Turns off everything that keeps an acknowledged write safe, one after the other, and destroys the primary.
async fn weaken_and_destroy(run: &RunContext<'_>) -> Result<()> {
    let (target, primary) = (run.target, &run.primary);
    postgres::set_synchronous(target, &Value::Null).await?;
    wait_until(IN_EFFECT, "replication stays synchronous", || async {
        Ok(target.psql(primary, "SHOW synchronous_standby_names").await?.trim().is_empty())
    })
    .await?;
    run.note("replication is asynchronous");
    postgres::fence(target, &run.standbys).await?;
    wait_until(IN_EFFECT, "the standbys do not stop", || async {
        Ok(target.psql(primary, "SELECT count(*) FROM pg_stat_replication").await?.trim() == "0")
    })
    .await?;
    run.note("the standbys are stopped");
    // The next segment of the WAL goes to the archive when it is full or 10 s old, which is not before the end.
    target.psql(primary, "SELECT pg_switch_wal()").await?;
    // These writes are acknowledged by the primary alone.
    tokio::time::sleep(ALONE).await;
    // A primary that is told to end archives its last segment, if it is fast enough: nothing would be lost.
    postgres::freeze(target, primary, STANDS_STILL).await?;
    destroy_primary(run).await
}

/// Lets the standbys run again, until the one that has most has taken over.
async fn fail_over(run: &RunContext<'_>) -> Result<()> {
    let (late, plan) = ("no standby takes over", run.plan().await);
    let recorded = plan.iter().find_map(|change| match change {
        Undo::ForceFailover { recorded, .. } => recorded.as_ref(),
        _ => None,
    });
    let lost = LostPrimary { instance: &run.primary, recorded, begun: true };
    until_ok(TAKEN_OVER, Duration::from_secs(1), late, || async { force_failover(run.target, &lost).await }).await
}
