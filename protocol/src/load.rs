//! `user-app load`: settings in its environment, and a [`Line`] of JSON in its log each second.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The argument that starts the sender.
pub const COMMAND: &str = "load";

/// The environment variables that the sender reads.
pub mod variables {
    /// The web Service, `name:port`.
    pub const WEB: &str = "LOAD_WEB";
    /// A word that marks what the run registers.
    pub const RUN: &str = "LOAD_RUN";
    /// Requests a second.
    pub const RATE: &str = "LOAD_RATE";
    /// The load's length in seconds.
    pub const SECONDS: &str = "LOAD_SECONDS";
    /// Users at the same time at most.
    pub const USERS: &str = "LOAD_USERS";
    /// Requests a second of the trickle after the load.
    pub const TAIL_RATE: &str = "LOAD_TAIL_RATE";
    /// The trickle's length in seconds at most.
    pub const TAIL_SECONDS: &str = "LOAD_TAIL_SECONDS";
}

/// A line of the sender's log that is for `stackctl`; the program's own log lines have no `report` in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "lowercase")]
pub enum Line {
    /// The report of a second.
    Load(SenderReport),
}

/// The sender's report: what came of the requests in the last second, and so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderReport {
    /// Seconds since the start.
    pub second: u64,
    /// The part of the run that this second was in.
    pub stage: Stage,
    /// Users that wait for an answer.
    pub busy: u64,
    /// Requests that are due and wait for a free user.
    pub waiting: u64,
    /// The requests since the report before.
    pub now: RequestCounts,
    /// The requests of the load so far.
    pub load: RequestCounts,
    /// The requests of the trickle so far.
    pub tail: RequestCounts,
    /// The number of failures so far by their reasons.
    pub reasons: BTreeMap<String, u64>,
    /// The report is the last one.
    pub ended: bool,
}

/// A part of the sender's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The load itself.
    Load,
    /// The trickle after it, while the autoscaler takes pods away.
    Tail,
}

/// The numbers of requests that were answered and that failed, and the latencies of the answers: in microseconds, from
/// when a request was due until its whole answer was there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCounts {
    /// Requests that were answered as they should be.
    pub answered: u64,
    /// All others.
    pub failed: u64,
    /// The median.
    pub p50: u64,
    /// The time that 99 of 100 answers did not exceed.
    pub p99: u64,
    /// The slowest answer.
    pub max: u64,
}
