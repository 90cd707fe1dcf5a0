//! The scenarios: what each does, what must happen, how it is undone, and on which clusters it can run.

mod api_server;
mod control;
pub(super) mod disaster;
mod nodes;
mod operator;
mod planned;
mod pods;
mod processes;
mod storage;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::future::LocalBoxFuture;

pub use operator::{OPERATOR, OPERATOR_NAMESPACE, OPERATOR_PODS};

use super::{
    journal::cluster::Running,
    model::{
        history::Stream,
        report::Criterion,
        requirement::{Ground, Needs},
    },
    observer::Observer,
    target::Stack,
    undo::Undo,
};
use crate::error::Result;

/// What there is before the writes begin.
pub struct Stage<'a> {
    /// The stack.
    pub stack: &'a Stack,
    /// The cluster.
    pub ground: &'a Ground,
    /// The run, for its record.
    pub running: Running,
}

/// What a scenario works with while the writes flow.
pub struct Scene<'a> {
    /// The run's name.
    pub run: &'a str,
    /// The stack.
    pub stack: &'a Stack,
    /// The cluster.
    pub ground: &'a Ground,
    /// What is seen of it, and where notes go.
    pub observer: &'a Observer,
    /// The primary before the fault.
    pub primary: String,
    /// Its node.
    pub node: String,
    /// The standbys before the fault.
    pub standbys: Vec<String>,
    /// What the scenario itself has checked.
    pub found: Mutex<Vec<Criterion>>,
}

impl Scene<'_> {
    /// Notes what the scenario itself has checked.
    pub fn found(&self, name: &str, ok: bool, detail: impl Into<String>) {
        let criterion = Criterion { name: name.into(), ok, detail: detail.into() };
        self.found.lock().unwrap_or_else(PoisonError::into_inner).push(criterion);
    }

    /// What it has checked.
    pub fn findings(&self) -> Vec<Criterion> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What must come of the primary's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A standby takes it.
    Moves,
    /// It stays where it is.
    Stays,
    /// Either is right.
    Either,
}

/// A way to break the stack.
pub struct Scenario {
    /// Its name on the command line.
    pub id: &'static str,
    /// What happens, as a headline.
    pub title: &'static str,
    /// What it does.
    pub does: &'static str,
    /// What must come of it.
    pub must: &'static str,
    /// How it is undone.
    pub undone: &'static str,
    /// On which clusters it can run.
    pub needs: Needs,
    /// What must come of the primary's role.
    pub role: Role,
    /// Whether the checker must find a loss: a negative control.
    pub control: bool,
    /// Whether users must not notice: no pause of writes to speak of, and no failed request.
    pub calm: bool,
    /// Whether the quorum must have refused a promotion.
    pub refused: bool,
    /// The streams that are written to.
    pub streams: &'static [Stream],
    /// How long before the fault what is lost may have been acknowledged. `None`: nothing may be lost.
    pub loses: Option<Duration>,
    /// Whether a volume is destroyed, and with it log that was not archived yet: a base backup is taken afterwards, as
    /// nothing after that gap could be restored without.
    pub loses_log: bool,
    /// How far ahead writes are handed out to the prober: for so long they go on without the API server.
    pub ahead: Duration,
    /// Brings the stack into the state in which the fault is to meet it, before the writes begin.
    pub prepare: for<'a> fn(&'a mut Stage<'_>) -> LocalBoxFuture<'a, Result<()>>,
    /// What is to be undone of the fault; decided and recorded before it.
    pub undo: for<'a> fn(&'a Scene<'a>) -> LocalBoxFuture<'a, Result<Vec<Undo>>>,
    /// Breaks it; returns what was done, in words.
    pub inject: for<'a> fn(&'a Scene<'a>) -> LocalBoxFuture<'a, Result<String>>,
    /// Goes on after the fault is in and was noted.
    pub then: for<'a> fn(&'a Scene<'a>) -> LocalBoxFuture<'a, Result<()>>,
}

/// Every scenario; the first is the default, the control is last. Two that kill a container have one between them that
/// moves the primary: the kubelet restarts a container that is killed again only after a pause.
pub static ALL: [&Scenario; 18] = [
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
    &nodes::NODE_DRAIN,
    &nodes::PARTITION,
    &disaster::DISASTER,
    &control::CONTROL,
];

/// What most scenarios have in common.
const COMMON: Scenario = Scenario {
    id: "",
    title: "",
    does: "",
    must: "",
    undone: "by the operator, which makes the pod again",
    needs: Needs::Nothing,
    role: Role::Either,
    control: false,
    calm: false,
    refused: false,
    streams: &Stream::ALL,
    loses: None,
    loses_log: false,
    ahead: Duration::from_secs(2),
    prepare: |_| Box::pin(async { Ok(()) }),
    undo: |_| Box::pin(async { Ok(Vec::new()) }),
    inject: |_| Box::pin(async { Ok(String::new()) }),
    then: |_| Box::pin(async { Ok(()) }),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_told_apart_and_described() {
        for (number, scenario) in ALL.iter().enumerate() {
            for text in [scenario.id, scenario.title, scenario.does, scenario.must, scenario.undone] {
                assert!(!text.is_empty(), "{}", scenario.id);
            }
            assert!(ALL[..number].iter().all(|other| other.id != scenario.id), "{} is there twice", scenario.id);
        }
        assert_eq!(ALL[0].id, "primary-delete", "the default");
        assert!(ALL.iter().all(|scenario| scenario.control == (scenario.id == "control")));
    }
}
