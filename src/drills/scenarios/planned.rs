//! What an administrator does on purpose.

use super::{
    Scenario, Text, Workload,
    fault::{Fault, FaultStep, RunContext},
};
use crate::drills::{
    actions::{postgres, switchover},
    model::{
        expectation::{Expectation, PrimaryRole},
        requirement::Requirement,
    },
};

pub static SWITCHOVER: Scenario = Scenario {
    id: "switchover",
    text: Text {
        title: "A planned switchover",
        does: "asks the operator to make a standby the primary",
        must: "the old primary stops, the standby is promoted, nothing acknowledged is lost",
        undone: "not needed: the roles have changed",
    },
    requires: Requirement::Nothing,
    workload: Workload::DEFAULT,
    expect: Expectation { primary: PrimaryRole::Moves, ..Expectation::DEFAULT },
    fault: &Switchover,
};

pub static ROLLING_RESTART: Scenario = Scenario {
    id: "rolling-restart",
    text: Text {
        title: "A rolling restart of the database",
        does: "restarts every instance, the primary last, as after a change of its image",
        must: "writes pause for the last one only, nothing acknowledged is lost",
        undone: "not needed",
    },
    requires: Requirement::Nothing,
    workload: Workload::DEFAULT,
    expect: Expectation::DEFAULT,
    fault: &RollingRestart,
};

struct Switchover;

impl Fault for Switchover {
    fn inject<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            let standby = &run.standbys[0];
            run.mark_injection(format!("switchover to {standby} asked for"));
            switchover::promote(run.target, standby).await
        })
    }
}

struct RollingRestart;

impl Fault for RollingRestart {
    fn inject<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            postgres::restart(run.target).await?;
            run.mark_injection("restart of every instance asked for");
            Ok(())
        })
    }
}
