//! Processes that are killed or stand still.

use std::time::Duration;

use super::{
    Scenario, Text, Workload,
    fault::{Fault, FaultStep, RunContext},
};
use crate::{
    drills::{
        actions::postgres,
        model::{expectation::Expectation, requirement::Requirement},
        undo::Undo,
    },
    names::POSTGRES,
    tools::faults,
};

/// How long the processes stand still.
const FROZEN: Duration = Duration::from_secs(60);
/// After this long they are ended by themselves, whatever became of the drill.
const FROZEN_AT_MOST: Duration = Duration::from_secs(150);

pub static PRIMARY_KILL: Scenario = Scenario {
    id: "primary-kill",
    text: Text {
        title: "The primary's container is killed",
        does: "kills every process of the primary's container with SIGKILL, from its node",
        must: "it comes back in place or a standby is promoted",
        undone: "by the kubelet, which starts the container again",
    },
    requires: Requirement::Containers,
    workload: Workload::DEFAULT,
    expect: Expectation::DEFAULT,
    fault: &PrimaryKill,
};

pub static POSTMASTER_CRASH: Scenario = Scenario {
    id: "postmaster-crash",
    text: Text {
        title: "PostgreSQL crashes on the primary",
        does: "kills the primary's PostgreSQL processes with SIGKILL, from within its container",
        must: "it recovers in place or a standby is promoted",
        undone: "by the instance manager",
    },
    requires: Requirement::Nothing,
    workload: Workload::DEFAULT,
    expect: Expectation::DEFAULT,
    fault: &PostmasterCrash,
};

pub static FREEZE: Scenario = Scenario {
    id: "freeze",
    text: Text {
        title: "The primary stands still",
        does: "stops the primary's PostgreSQL processes with SIGSTOP for a minute",
        must: "nothing is acknowledged meanwhile, and writes resume at the latest when it goes on: CloudNativePG 1.30 does \
               not complete this failover by itself, the failover helper ends a primary that hangs",
        undone: "SIGCONT, or SIGKILL where another instance is to be the primary",
    },
    requires: Requirement::Nothing,
    workload: Workload::DEFAULT,
    expect: Expectation::DEFAULT,
    fault: &Freeze,
};

struct PrimaryKill;

impl Fault for PrimaryKill {
    fn inject<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            run.mark_injection(format!("the container of {} killed", run.primary));
            faults::kill_container(&run.node, &run.target.namespace, &run.primary, POSTGRES).await
        })
    }
}

struct PostmasterCrash;

impl Fault for PostmasterCrash {
    fn inject<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            run.mark_injection(format!("PostgreSQL killed on {}", run.primary));
            postgres::signal(run.target, &run.primary, "KILL").await
        })
    }
}

struct Freeze;

impl Fault for Freeze {
    fn undo_plan<'a>(&'a self, _: &'a RunContext<'_>) -> FaultStep<'a, Vec<Undo>> {
        Box::pin(async move { Ok(vec![Undo::Continue]) })
    }

    fn inject<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            run.mark_injection(format!("PostgreSQL stands still on {}", run.primary));
            postgres::freeze(run.target, &run.primary, FROZEN_AT_MOST).await
        })
    }

    /// Waits a minute. What the operator makes of the fault is noted, and is no reason to fail.
    fn hold<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            let end = tokio::time::Instant::now() + FROZEN;
            let what = if run.wait_for_failover(FROZEN).await { "completed" } else { "did not complete" };
            run.found("the outcome is recorded", true, format!("the failover {what} while the primary stood still"));
            tokio::time::sleep_until(end).await;
            Ok(())
        })
    }
}
