//! The scenarios: what each does, what must happen, how it is undone, and on which clusters it can run.

mod api_server;
mod control;
mod disaster;
mod fault;
mod nodes;
mod operator;
mod planned;
mod pods;
mod processes;
mod storage;

use std::time::Duration;

pub use fault::{Fault, RunContext, Setup};

use super::model::{expectation::Expectation, history::Stream, requirement::Requirement};

/// A way to break the stack, and what must come of it.
pub struct Scenario {
    /// The scenario's name on the command line.
    pub id: &'static str,
    /// The texts that users read.
    pub text: Text,
    /// The requirement on the cluster.
    pub requires: Requirement,
    /// The writes that flow meanwhile.
    pub workload: Workload,
    /// The outcome that is a pass.
    pub expect: Expectation,
    /// The fault that is put in.
    pub fault: &'static dyn Fault,
}

/// The texts of a scenario that users read.
pub struct Text {
    /// The headline: what happens.
    pub title: &'static str,
    /// The fault: what the drill does.
    pub does: &'static str,
    /// The outcome that is a pass.
    pub must: &'static str,
    /// The way in which the fault is undone.
    pub undone: &'static str,
}

/// The writes that flow while a scenario runs.
pub struct Workload {
    /// The streams that are written to.
    pub streams: &'static [Stream],
    /// The time by which a write is handed out to the prober before it is due: for so long writes go on without the API server.
    pub lead_time: Duration,
}

impl Workload {
    /// The workload of most scenarios: both streams, and a lead time that outlasts a connection made anew.
    const DEFAULT: Workload = Workload { streams: &Stream::ALL, lead_time: Duration::from_secs(2) };
}

/// The way in which a fault is undone that takes pods away only.
const UNDONE_BY_OPERATOR: &str = "by the operator, which makes the pod again";

/// Every scenario; the first is the default, the control is last. Two that kill a container have one between them that
/// moves the primary: the kubelet restarts a container that is killed again only after a pause.
pub static ALL: [&Scenario; 19] = [
    &pods::PRIMARY_DELETE,
    &processes::PRIMARY_KILL,
    &pods::STANDBY_LOSS,
    &planned::SWITCHOVER,
    &processes::POSTMASTER_CRASH,
    &planned::ROLLING_RESTART,
    &operator::OPERATOR_DOWN,
    &pods::DOUBLE_FAULT,
    &storage::PVC_LOSS,
    &storage::DISK_FULL,
    &processes::FREEZE,
    &pods::WEB_PODS,
    &api_server::API_SERVER_DOWN,
    &nodes::NODE_KILL,
    &nodes::ZONE_LOSS,
    &nodes::NODE_DRAIN,
    &nodes::PARTITION,
    &disaster::DISASTER,
    &control::CONTROL,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drills::model::expectation::Loss;

    #[test]
    fn scenarios_are_told_apart_and_described() {
        for (number, scenario) in ALL.iter().enumerate() {
            let Text { title, does, must, undone } = scenario.text;
            for text in [scenario.id, title, does, must, undone] {
                assert!(!text.is_empty(), "{}", scenario.id);
            }
            assert!(ALL[..number].iter().all(|other| other.id != scenario.id), "{} is there twice", scenario.id);
        }
        assert_eq!(ALL[0].id, "primary-delete", "the default");
        assert!(ALL.iter().all(|scenario| (scenario.expect.loss == Loss::MustBeFound) == (scenario.id == "control")));
    }
}
