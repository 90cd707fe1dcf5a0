//! The operator goes away.

use std::time::Duration;

use super::{
    Scenario, Text, Workload,
    fault::{Fault, FaultStep, RunContext},
    pods,
};
use crate::drills::{
    actions::operator,
    model::{
        expectation::{Expectation, PrimaryRole},
        requirement::Requirement,
    },
    undo::Undo,
};

/// How long the operator is away after the primary was lost.
const AWAY: Duration = Duration::from_secs(10);

pub static OPERATOR_DOWN: Scenario = Scenario {
    id: "operator-down",
    text: Text {
        title: "The primary fails while the operator is away",
        does: "scales the operator to zero, deletes the primary's pod, brings the operator back after 10 s",
        must: "a standby is promoted once the operator is back",
        undone: "the operator is scaled back",
    },
    requires: Requirement::OwnOperator,
    workload: Workload::DEFAULT,
    expect: Expectation { primary: PrimaryRole::Moves, ..Expectation::DEFAULT },
    fault: &OperatorDown,
};

struct OperatorDown;

impl Fault for OperatorDown {
    fn undo_plan<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a, Vec<Undo>> {
        Box::pin(async move {
            let replicas = operator::replicas(run.target).await?;
            let there = run.target.kube.operator().await?;
            Ok(vec![Undo::Scale { namespace: there.namespace.clone(), name: there.deployment.clone(), replicas }])
        })
    }

    fn inject<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            operator::stop(run.target).await?;
            pods::delete(run, &run.primary, 1).await
        })
    }

    fn hold<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            tokio::time::sleep(AWAY).await;
            run.note("the operator is brought back");
            // The same as undoing it, which will find it done.
            operator::start(run.target).await
        })
    }
}
