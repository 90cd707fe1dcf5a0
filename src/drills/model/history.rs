//! What was attempted and what came of it: the history that the verdict is passed on.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::database::Lsn;

/// Microseconds since the run began, on the CLI's monotonic clock.
pub type Micros = u64;

/// The way a write took to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// SQL straight to the `-rw` Service.
    Sql,
    /// A registration through the web Service, under an idempotency key.
    Http,
}

impl Stream {
    /// Both streams.
    pub const ALL: [Stream; 2] = [Stream::Sql, Stream::Http];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Stream::Sql => "SQL",
            Stream::Http => "HTTP",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where the server was when it wrote a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The timeline that the row was written on.
    pub timeline: u32,
    /// The position just after the row, before its commit record.
    pub lsn: Lsn,
    /// The server's address.
    pub server: String,
}

/// What the client learned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum Outcome {
    /// The server said that it is stored, without a reservation.
    Acknowledged {
        /// Where, as far as the stream can tell (SQL can, HTTP can't).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<Place>,
    },
    /// It is certain that it was not stored: never sent over, or turned down by the server.
    Refused {
        /// The reason, in the server's or the system's words.
        why: String,
    },
    /// The answer was lost, or had a reservation: it may be stored or not.
    Unknown {
        /// What happened instead of an answer.
        why: String,
    },
    /// The drill ended before its time came: it was never tried.
    Unsent,
}

/// One write, under a key that is used once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Unique in the run, over both streams.
    pub key: u64,
    /// The way that the write takes.
    pub stream: Stream,
    /// When it was to be sent, by the fixed arrival rate.
    pub due: Micros,
    /// When it was sent; after `due` when the prober was late.
    pub sent: Option<Micros>,
    /// When its outcome was known.
    pub done: Option<Micros>,
    /// The outcome. An intent without an outcome in the ledger is [`Outcome::Unknown`].
    pub outcome: Outcome,
}

impl Attempt {
    /// Whether the client was told that it is stored.
    pub fn acknowledged(&self) -> bool {
        matches!(self.outcome, Outcome::Acknowledged { .. })
    }

    /// Where it was written, if it was acknowledged and its stream tells.
    pub fn place(&self) -> Option<&Place> {
        match &self.outcome {
            Outcome::Acknowledged { place } => place.as_ref(),
            _ => None,
        }
    }

    /// From when it was due (not from when it was sent: a late prober must not hide a wait) to its outcome.
    pub fn latency(&self) -> Option<Micros> {
        self.done.map(|done| done.saturating_sub(self.due))
    }
}

/// Every attempt of a run, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The attempts.
    pub attempts: BTreeMap<u64, Attempt>,
}

impl History {
    /// The attempts of one stream, in the order of their keys, which is that of their due times.
    pub fn of(&self, stream: Stream) -> impl Iterator<Item = &Attempt> {
        self.attempts.values().filter(move |attempt| attempt.stream == stream)
    }

    /// When the acknowledgements of a stream came, in order.
    pub fn acknowledgements(&self, stream: Stream) -> Vec<Micros> {
        let mut times: Vec<Micros> = self.of(stream).filter(|a| a.acknowledged()).filter_map(|a| a.done).collect();
        times.sort_unstable();
        times
    }
}
