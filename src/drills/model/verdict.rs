//! The checker: history and final state in, verdict out. Pure, so that planted faults can test it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use super::history::{History, Micros, Outcome, Place, Stream};
use crate::database::Fork;

/// What one instance holds after recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceRows {
    /// The pod's name.
    pub name: String,
    /// How often each key of the run is there.
    pub rows: BTreeMap<u64, u32>,
}

/// What was read after full redundancy was back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FinalState {
    /// Every instance; the first is the primary.
    pub instances: Vec<InstanceRows>,
    /// The history of the final timeline.
    pub forks: Vec<Fork>,
}

/// The kinds of anomalies. Any of these fails the drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyKind {
    /// Acknowledged, and absent on an instance.
    Lost,
    /// Refused or never sent, and present.
    Phantom,
    /// Present more than once.
    Doubled,
    /// Present under a key that was never given out.
    Foreign,
    /// There on one instance and not on another, though never acknowledged.
    Divergent,
    /// A write was sent to and acknowledged on an old timeline after one was acknowledged on a newer.
    SplitBrain,
    /// Acknowledged on a timeline beyond the point where its successor left it.
    BeyondFork,
    /// Nothing was acknowledged or read: the run proves nothing.
    NoEvidence,
}

impl AnomalyKind {
    /// In reports.
    pub const fn title(self) -> &'static str {
        match self {
            AnomalyKind::Lost => "acknowledged and lost",
            AnomalyKind::Phantom => "refused but stored",
            AnomalyKind::Doubled => "stored twice",
            AnomalyKind::Foreign => "stored without having been sent",
            AnomalyKind::Divergent => "instances disagree",
            AnomalyKind::SplitBrain => "two primaries acknowledged at once",
            AnomalyKind::BeyondFork => "acknowledged beyond the fork",
            AnomalyKind::NoEvidence => "no evidence",
        }
    }
}

/// One thing that is wrong. Its names in JSON are those of the report's schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomaly {
    /// The kind of anomaly.
    #[serde(rename = "wrong")]
    pub kind: AnomalyKind,
    /// With which key, if with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<u64>,
    /// The anomaly in words.
    pub detail: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key {
            Some(key) => write!(f, "{}: key {key}: {}", self.kind.title(), self.detail),
            None => write!(f, "{}: {}", self.kind.title(), self.detail),
        }
    }
}

/// How many of a stream's attempts ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteCounts {
    /// Sent, or tried to be sent.
    pub attempted: u64,
    /// Acknowledged writes.
    pub acknowledged: u64,
    /// Certainly not stored.
    pub refused: u64,
    /// Answer lost, and the row is there.
    pub unknown_stored: u64,
    /// Answer lost, and the row is not there.
    pub unknown_absent: u64,
    /// Of the unknown ones those of which the prober never told anything: its conversation broke.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unrecorded: u64,
}

/// Whether a count is left out of a report, as those of versions before have it.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it by reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl WriteCounts {
    /// What a user saw as a failure: refused or without an answer.
    pub const fn failed(&self) -> u64 {
        self.refused + self.unknown_stored + self.unknown_absent
    }
}

/// The verdict on a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether nothing is wrong.
    pub pass: bool,
    /// Everything that is wrong.
    #[serde(rename = "findings")]
    pub anomalies: Vec<Anomaly>,
    /// The SQL stream's counts.
    pub sql: WriteCounts,
    /// The HTTP stream's counts.
    pub http: WriteCounts,
    /// Acknowledgements of an old timeline that came after one of a newer, for writes sent before it: an
    /// answer may be late without being wrong. Reported, and no reason to fail.
    pub late_acknowledgements: u64,
}

impl Verdict {
    /// The counts of a stream.
    pub const fn counts(&self, stream: Stream) -> &WriteCounts {
        match stream {
            Stream::Sql => &self.sql,
            Stream::Http => &self.http,
        }
    }

    /// How many writes there is an anomaly of a kind about: one lost on three instances is one write.
    pub fn writes(&self, kind: AnomalyKind) -> usize {
        let keys: BTreeSet<_> =
            self.anomalies.iter().filter(|anomaly| anomaly.kind == kind).filter_map(|anomaly| anomaly.key).collect();
        keys.len()
    }

    /// How many anomalies there are of a kind.
    pub fn count(&self, kind: AnomalyKind) -> usize {
        self.anomalies.iter().filter(|anomaly| anomaly.kind == kind).count()
    }
}

/// Passes the verdict.
pub fn judge(history: &History, state: &FinalState) -> Verdict {
    let mut anomalies = Vec::new();
    let (mut sql, mut http) = (WriteCounts::default(), WriteCounts::default());
    for attempt in history.attempts.values() {
        let counts = match attempt.stream {
            Stream::Sql => &mut sql,
            Stream::Http => &mut http,
        };
        let key = attempt.key;
        let copies: Vec<u32> = state.instances.iter().map(|i| i.rows.get(&key).copied().unwrap_or(0)).collect();
        let present = copies.iter().any(|copies| *copies > 0);
        let mut report = |kind, detail: String| anomalies.push(Anomaly { kind, key: Some(key), detail });
        match &attempt.outcome {
            Outcome::Acknowledged { place } => {
                counts.acknowledged += 1;
                for (instance, _) in state.instances.iter().zip(&copies).filter(|(_, copies)| **copies == 0) {
                    let place = place.as_ref().map(|p| format!(" (written at {} on timeline {})", p.lsn, p.timeline));
                    let place = place.unwrap_or_default();
                    report(AnomalyKind::Lost, format!("{} write{place} is not on {}", attempt.stream, instance.name));
                }
            }
            Outcome::Refused { why } => {
                counts.refused += 1;
                if present {
                    report(AnomalyKind::Phantom, format!("{} write was refused ({why}) and is stored", attempt.stream));
                }
            }
            Outcome::Unsent if present => report(AnomalyKind::Phantom, "a write that was never sent is stored".into()),
            Outcome::Unknown { .. } if present => counts.unknown_stored += 1,
            Outcome::Unknown { .. } => counts.unknown_absent += 1,
            Outcome::Unsent => {}
        }
        if attempt.outcome != Outcome::Unsent {
            counts.attempted += 1;
        }
        if matches!(attempt.outcome, Outcome::Unknown { .. }) && attempt.done.is_none() {
            counts.unrecorded += 1;
        }
        if let Some(instance) = state.instances.iter().zip(&copies).find(|(_, copies)| **copies > 1) {
            report(AnomalyKind::Doubled, format!("{} copies on {}", instance.1, instance.0.name));
        }
        if present && !attempt.acknowledged() && copies.contains(&0) {
            report(AnomalyKind::Divergent, "stored on some instances only".into());
        }
    }
    foreign(history, state, &mut anomalies);
    beyond_fork(history, &state.forks, &mut anomalies);
    let late_acknowledgements = split_brain(history, &mut anomalies);
    no_evidence(state, [(Stream::Sql, sql), (Stream::Http, http)], &mut anomalies);
    Verdict { pass: anomalies.is_empty(), anomalies, sql, http, late_acknowledgements }
}

fn foreign(history: &History, state: &FinalState, anomalies: &mut Vec<Anomaly>) {
    let mut keys: BTreeMap<u64, &str> = BTreeMap::new();
    for instance in &state.instances {
        for key in instance.rows.keys().filter(|key| !history.attempts.contains_key(key)) {
            keys.entry(*key).or_insert(&instance.name);
        }
    }
    for (key, name) in keys {
        let detail = format!("on {name}, and no such key was given out");
        anomalies.push(Anomaly { kind: AnomalyKind::Foreign, key: Some(key), detail });
    }
}

/// The acknowledged writes whose timeline is known: sent, done, key, place.
fn placed(history: &History) -> impl Iterator<Item = (Micros, Micros, u64, &Place)> {
    history.attempts.values().filter_map(|attempt| Some((attempt.sent?, attempt.done?, attempt.key, attempt.place()?)))
}

fn beyond_fork(history: &History, forks: &[Fork], anomalies: &mut Vec<Anomaly>) {
    for (_, _, key, place) in placed(history) {
        if let Some(fork) = forks.iter().find(|fork| fork.parent == place.timeline && place.lsn > fork.at) {
            let detail = format!(
                "acknowledged by {} at {} on timeline {}, which ended at {}",
                place.server, place.lsn, place.timeline, fork.at
            );
            anomalies.push(Anomaly { kind: AnomalyKind::BeyondFork, key: Some(key), detail });
        }
    }
}

/// Two servers took writes at once if a write was sent to and acknowledged on an old timeline after one
/// had been acknowledged on a newer. An answer that merely arrives late is counted, not condemned: the
/// write was sent before the other was acknowledged, so that they may have happened in their right order.
fn split_brain(history: &History, anomalies: &mut Vec<Anomaly>) -> u64 {
    // When the first write of each timeline was acknowledged.
    let mut first: BTreeMap<u32, (Micros, u64, &Place)> = BTreeMap::new();
    for (_, done, key, place) in placed(history) {
        let entry = first.entry(place.timeline).or_insert((done, key, place));
        if done < entry.0 {
            *entry = (done, key, place);
        }
    }
    let mut late = 0;
    for (sent, done, key, place) in placed(history) {
        let newer = first.range(place.timeline + 1..).map(|(_, first)| first).min_by_key(|first| first.0);
        let Some((newer_done, newer_key, newer)) = newer else { continue };
        if sent > *newer_done {
            let detail = format!(
                "sent to and acknowledged by {} on timeline {} after {} had acknowledged key {newer_key} on timeline {}",
                place.server, place.timeline, newer.server, newer.timeline
            );
            anomalies.push(Anomaly { kind: AnomalyKind::SplitBrain, key: Some(key), detail });
        } else if done > *newer_done {
            late += 1;
        }
    }
    late
}

fn no_evidence(state: &FinalState, counts: [(Stream, WriteCounts); 2], anomalies: &mut Vec<Anomaly>) {
    if state.instances.is_empty() {
        anomalies.push(Anomaly {
            kind: AnomalyKind::NoEvidence,
            key: None,
            detail: "no instance could be read".into(),
        });
    }
    for (stream, counts) in counts {
        if counts.attempted > 0 && counts.acknowledged == 0 {
            let detail = format!("not one {stream} write was acknowledged");
            anomalies.push(Anomaly { kind: AnomalyKind::NoEvidence, key: None, detail });
        }
    }
    if counts.iter().all(|(_, counts)| counts.attempted == 0) {
        anomalies.push(Anomaly { kind: AnomalyKind::NoEvidence, key: None, detail: "no write was attempted".into() });
    }
}
