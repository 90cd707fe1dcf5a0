//! Pods that go away.

use super::{
    Scenario, Text, UNDONE_BY_OPERATOR, Workload,
    fault::{Fault, FaultStep, RunContext},
};
use crate::{
    drills::{
        actions::pods::{self, replace_web_pods},
        model::{
            expectation::{Expectation, PrimaryRole},
            requirement::Requirement,
        },
    },
    error::Result,
    names::WEB,
};

pub static PRIMARY_DELETE: Scenario = Scenario {
    id: "primary-delete",
    text: Text {
        title: "The primary's pod is deleted",
        does: "deletes the primary's pod with a grace period of one second",
        must: "a standby is promoted, the old primary comes back as a standby",
        undone: UNDONE_BY_OPERATOR,
    },
    requires: Requirement::Nothing,
    workload: Workload::DEFAULT,
    expect: Expectation { primary: PrimaryRole::Moves, ..Expectation::DEFAULT },
    fault: &PrimaryDelete,
};

pub static STANDBY_LOSS: Scenario = Scenario {
    id: "standby-loss",
    text: Text {
        title: "A standby fails",
        does: "deletes a standby's pod without a grace period",
        must: "writes go on with the other standby",
        undone: UNDONE_BY_OPERATOR,
    },
    requires: Requirement::Nothing,
    workload: Workload::DEFAULT,
    expect: Expectation { primary: PrimaryRole::Stays, uninterrupted: true, ..Expectation::DEFAULT },
    fault: &StandbyLoss,
};

pub static DOUBLE_FAULT: Scenario = Scenario {
    id: "double-fault",
    text: Text {
        title: "The primary and a standby fail together",
        does: "deletes the pods of one standby and of the primary without a grace period",
        must: "the quorum refuses to promote while it can't be sure; recovery when it can, nothing acknowledged is lost",
        undone: "by the operator, which makes the pods again",
    },
    requires: Requirement::Nothing,
    workload: Workload::DEFAULT,
    expect: Expectation { promotion_refused: true, ..Expectation::DEFAULT },
    fault: &DoubleFault,
};

pub static WEB_PODS: Scenario = Scenario {
    id: "web-pods",
    text: Text {
        title: "The web app's pods are replaced one by one",
        does: "deletes every pod of the web app, one after the other",
        must: "no request fails",
        undone: "by the Deployment, which makes the pods again",
    },
    requires: Requirement::Nothing,
    workload: Workload::DEFAULT,
    expect: Expectation { primary: PrimaryRole::Stays, uninterrupted: true, ..Expectation::DEFAULT },
    fault: &WebPods,
};

/// Deletes an instance's pod, and marks it as the fault.
pub async fn delete(run: &RunContext<'_>, pod: &str, grace: u32) -> Result<()> {
    run.mark_injection(format!("pod {pod} deleted"));
    pods::delete(run.target, pod, grace).await
}

struct PrimaryDelete;

impl Fault for PrimaryDelete {
    fn inject<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(delete(run, &run.primary, 1))
    }
}

struct StandbyLoss;

impl Fault for StandbyLoss {
    fn inject<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(delete(run, &run.standbys[0], 0))
    }
}

struct DoubleFault;

impl Fault for DoubleFault {
    /// The standby first: were the primary gone while both standbys are there, the quorum would rightly agree.
    fn inject<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            delete(run, &run.standbys[0], 0).await?;
            delete(run, &run.primary, 0).await
        })
    }
}

struct WebPods;

impl Fault for WebPods {
    fn inject<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            run.mark_injection(format!("deleting the pods of {WEB} in {}", run.target.namespace));
            Ok(())
        })
    }

    fn hold<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(replace_web_pods(run.target, |pod| run.note(format!("{pod} is deleted"))))
    }
}
