//! Volumes that are lost or full.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{
    Scenario, Text, Workload,
    fault::{Fault, FaultStep, RunContext, Setup},
};
use crate::{
    drills::{
        actions::volumes::{self, BoundedVolume},
        model::{
            expectation::{Expectation, PrimaryRole},
            requirement::Requirement,
        },
        undo::Undo,
    },
    error::Result,
};

/// How long the disk stays full: long enough for PostgreSQL to need a new segment of its WAL.
const FULL: Duration = Duration::from_secs(25);

pub static PVC_LOSS: Scenario = Scenario {
    id: "pvc-loss",
    text: Text {
        title: "The primary loses its volume",
        does: "deletes the primary's volume claim together with its pod",
        must: "a standby is promoted, a new instance is made from it",
        undone: "by the operator, which makes a new instance; a base backup is taken, as the WAL that was on the volume \
                 only is missing in the archive",
    },
    requires: Requirement::Nothing,
    workload: Workload::DEFAULT,
    expect: Expectation { primary: PrimaryRole::Moves, loses_wal: true, ..Expectation::DEFAULT },
    fault: &PvcLoss,
};

pub static DISK_FULL: Scenario = Scenario {
    id: "disk-full",
    text: Text {
        title: "The primary's disk is full",
        does: "moves the primary to a volume of 640 MiB in the node's memory beforehand, fills it to the last byte for \
               25 s while its WAL grows; the node's own disk is not touched",
        must: "writes are refused rather than acknowledged and lost; the operator does not fail over, by design; \
               recovery once there is room",
        undone: "the filler is removed, then the instance is replaced by one on an ordinary volume",
    },
    requires: Requirement::Containers,
    workload: Workload::DEFAULT,
    expect: Expectation::DEFAULT,
    fault: &DiskFull,
};

/// Deletes the primary's volume with its pod, and marks it as the fault.
pub async fn destroy_primary(run: &RunContext<'_>) -> Result<()> {
    run.record_deletion().await?;
    run.mark_injection(format!("volume claim and pod {} deleted", run.primary));
    volumes::destroy(run.target, &run.primary).await
}

struct PvcLoss;

impl Fault for PvcLoss {
    fn inject<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(destroy_primary(run))
    }
}

struct DiskFull;

impl Fault for DiskFull {
    fn prepare<'a>(&'a self, setup: &'a mut Setup<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            let volume = BoundedVolume::for_a_standby(setup.target).await?;
            setup.record_undo(Undo::BoundedVolume { volume: volume.clone() }).await?;
            volume.create(setup.target).await
        })
    }

    fn undo_plan<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a, Vec<Undo>> {
        Box::pin(async move { Ok(vec![Undo::MakeRoom { volume: volume(run) }]) })
    }

    fn inject<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            let on_fill = || run.mark_injection(format!("the disk of {} is filled", run.primary));
            volume(run).fill(run.target, on_fill).await
        })
    }

    fn hold<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(ask_for_segments(run))
    }
}

fn volume(run: &RunContext<'_>) -> BoundedVolume {
    BoundedVolume::new(&run.node, &run.primary)
}

/// Asks for new segments of the WAL, as days of writes do.
async fn ask_for_segments(run: &RunContext<'_>) -> Result<()> {
    let end = Instant::now() + FULL;
    let mut switched = 0;
    while Instant::now() < end {
        match timeout(Duration::from_secs(3), run.target.psql(&run.primary, "SELECT pg_switch_wal()")).await {
            Ok(Ok(_)) => switched += 1,
            // It is down, or waits for room: that is what was asked for.
            Ok(Err(_)) | Err(_) => sleep(Duration::from_millis(500)).await,
        }
        sleep(Duration::from_millis(100)).await;
    }
    run.note(format!("{switched} new segments of the WAL were asked for and made"));
    Ok(())
}
