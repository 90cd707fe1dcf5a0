//! `user-app probe`: lines of JSON both ways over a port-forward, [`Order`]s to the prober and [`Reply`]s from it.
//!
//! Times are microseconds of the prober's own monotonic clock; the answers to [`Order::Clock`] let `stackctl` find the
//! difference to its own.

use serde::{Deserialize, Serialize};

/// The argument that starts the prober.
pub const COMMAND: &str = "probe";
/// The prober's port; it listens on the pod's loopback address only.
pub const PORT: u16 = 7070;
/// The environment variable that names the web Service, `name:port`.
pub const WEB_VARIABLE: &str = "PROBE_WEB";

/// An order is what `stackctl` sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "lowercase")]
pub enum Order {
    /// The first order of a connection: the prober says who it is, and sends again what is not confirmed.
    Hello {
        /// The run's name, a part of every row.
        run: String,
    },
    /// A question for the time.
    Clock {
        /// The question's number, which comes back with the answer.
        #[serde(rename = "n")]
        question: u64,
    },
    /// Writes to be sent when they are due. Keys only grow: one that was taken before is not taken again.
    Send {
        /// The writes, in the order of their keys.
        writes: Vec<Write>,
    },
    /// A receipt: outcomes up to this number are recorded, and the prober may forget them.
    Confirm {
        /// The number of the last outcome that is recorded.
        #[serde(rename = "upto")]
        up_to: u64,
    },
    /// The end: nothing more is sent, also of what has been taken.
    Stop,
}

/// A write to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// The key, unique in the run; keys start at 1.
    pub key: u64,
    /// The way to the database.
    pub stream: Stream,
    /// The time at which the write is to be sent.
    pub due: u64,
}

/// The way that a write takes to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// SQL straight to the primary's Service.
    Sql,
    /// A registration through the web Service.
    Http,
}

/// A reply is what the prober sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "lowercase")]
pub enum Reply {
    /// The answer to [`Order::Hello`].
    Hello {
        /// The process's identity: another one means that what the old one knew is lost.
        process: u64,
        /// The last key that has arrived; writes beyond it are to be sent again.
        #[serde(rename = "taken")]
        last_key: u64,
    },
    /// The answer to [`Order::Clock`].
    Clock {
        /// The question's number.
        #[serde(rename = "n")]
        question: u64,
        /// The time.
        now: u64,
    },
    /// The outcome of a write.
    Outcome {
        /// The outcome's number; numbers grow by one, from 1.
        #[serde(rename = "n")]
        number: u64,
        /// The write's key.
        key: u64,
        /// The time at which the write was sent, if it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sent: Option<u64>,
        /// The time at which its outcome was known.
        done: u64,
        /// The outcome.
        outcome: Outcome,
    },
}

/// The way a write ended, as far as the prober knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum Outcome {
    /// The server said without reservation that the row is stored.
    Acknowledged {
        /// The place of the row, if the stream tells: SQL does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<Place>,
    },
    /// The row is certainly not stored.
    Refused {
        /// The reason, in the server's or the system's words.
        why: String,
    },
    /// The row may be stored or not.
    Unknown {
        /// The event that came instead of an answer.
        why: String,
    },
    /// The write was stopped before it was due.
    Unsent,
}

/// The place in the WAL at which a row was written, and the server that wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The timeline.
    pub timeline: u32,
    /// The LSN just after the row, as PostgreSQL writes it.
    pub lsn: String,
    /// The server's address.
    pub server: String,
}
