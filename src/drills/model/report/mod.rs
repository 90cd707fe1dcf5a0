//! The report of a drill: what is kept, shown, and handed to others.

mod html;
mod junit;
mod svg;
mod text;

pub use html::html;
pub use junit::junit;
pub use text::{distribution, seconds, summary};

use serde::{Deserialize, Serialize};

use super::{
    events::DrillEvent,
    history::{History, Micros, Outcome, Stream},
    times::{Times, millis, percentile},
    verdict::Verdict,
};
use crate::database::Fork;

/// The name of the JSON report's schema.
pub const SCHEMA: &str = "stackctl/drill-report";
/// The version of the JSON report's schema. Fields may be added within one; any other change raises it.
pub const VERSION: u32 = 1;

/// Where a drill ran.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// The version of stackctl.
    pub stackctl: String,
    /// E.g. `minikube profile stackctl`.
    pub target: String,
    /// The API server's version.
    pub kubernetes: String,
    /// Nodes that are ready.
    pub nodes: usize,
    /// The operator's image.
    pub operator: String,
    /// The operand's image.
    pub postgresql: String,
    /// PostgreSQL instances.
    pub instances: usize,
    /// Ready pods of the web app.
    pub web_pods: usize,
    /// Settings of the database that decide on its failover, as `name = value`.
    pub settings: Vec<String>,
}

/// Something that must hold for the drill to pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Criterion {
    /// What must hold.
    pub name: String,
    /// Whether it does.
    pub ok: bool,
    /// The figures behind it.
    pub detail: String,
}

/// A quarter of a second of a stream, for the timeline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Acknowledged in it.
    pub acknowledged: u64,
    /// Refused or given up in it.
    pub failed: u64,
    /// Median latency of the acknowledged, in milliseconds.
    pub p50_ms: f64,
    /// The longest, in milliseconds.
    pub max_ms: f64,
}

/// The buckets of one stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Which stream.
    pub stream: Stream,
    /// From the run's start, [`BUCKET_MS`] each.
    pub buckets: Vec<Bucket>,
}

/// The length of a [`Bucket`], in milliseconds.
pub const BUCKET_MS: u64 = 250;

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillRun {
    /// The run's name: when it began, and which scenario.
    pub run: String,
    /// The scenario's id.
    pub scenario: String,
    /// The scenario's title.
    pub title: String,
    /// When it began, by the wall clock.
    pub began: jiff::Timestamp,
    /// How long writes flowed, in milliseconds.
    pub lasted_ms: f64,
    /// Writes a second in each stream.
    pub rate: f64,
    /// Whether every criterion holds.
    pub pass: bool,
    /// What had to hold.
    pub criteria: Vec<Criterion>,
    /// What the checker found.
    pub verdict: Verdict,
    /// How long it took.
    pub times: Times,
    /// What was seen, in order.
    pub events: Vec<DrillEvent>,
    /// The promotions in the final timeline's history.
    pub forks: Vec<Fork>,
    /// For the timeline picture.
    pub series: Vec<Series>,
    /// How far the prober's clock may be off the run's, in milliseconds.
    pub clock_error_ms: f64,
    /// Reasons of refused and unknown outcomes, the most frequent first.
    pub reasons: Vec<(String, u64)>,
}

/// A report: one or more runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillReport {
    /// [`SCHEMA`].
    pub schema: String,
    /// [`VERSION`].
    pub version: u32,
    /// Where they ran.
    pub environment: Environment,
    /// The runs, in their order.
    pub runs: Vec<DrillRun>,
}

impl DrillReport {
    /// A report on `runs`.
    pub fn new(environment: Environment, runs: Vec<DrillRun>) -> DrillReport {
        DrillReport { schema: SCHEMA.into(), version: VERSION, environment, runs }
    }

    /// Whether every run passed, and there is one.
    pub fn pass(&self) -> bool {
        !self.runs.is_empty() && self.runs.iter().all(|run| run.pass)
    }
}

/// Cuts a stream of the history into buckets.
pub fn series(history: &History, end: Micros) -> Vec<Series> {
    let bucket_of = |at: Micros| usize::try_from(at / (BUCKET_MS * 1000)).unwrap_or(usize::MAX);
    let streams = Stream::ALL.into_iter().filter(|stream| history.of(*stream).next().is_some());
    let last = history.attempts.values().filter_map(|attempt| attempt.done).max().unwrap_or(0).max(end);
    streams
        .map(|stream| {
            let mut buckets = vec![Bucket::default(); bucket_of(last) + 1];
            let mut latencies: Vec<Vec<Micros>> = vec![Vec::new(); buckets.len()];
            for attempt in history.of(stream).filter(|attempt| attempt.outcome != Outcome::Unsent) {
                let Some(done) = attempt.done else { continue };
                let at = bucket_of(done);
                if attempt.acknowledged() {
                    buckets[at].acknowledged += 1;
                    latencies[at].extend(attempt.latency());
                } else {
                    buckets[at].failed += 1;
                }
            }
            for (bucket, latencies) in buckets.iter_mut().zip(&mut latencies) {
                latencies.sort_unstable();
                bucket.p50_ms = millis(percentile(latencies, 50));
                bucket.max_ms = millis(latencies.last().copied().unwrap_or(0));
            }
            Series { stream, buckets }
        })
        .collect()
}

/// The reasons why writes were not acknowledged, the most frequent reason first.
pub fn reasons(history: &History) -> Vec<(String, u64)> {
    let mut counts: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    for attempt in history.attempts.values() {
        let reason = match &attempt.outcome {
            Outcome::Refused { why } => format!("{} refused: {why}", attempt.stream),
            Outcome::Unknown { why } => format!("{} unknown: {why}", attempt.stream),
            _ => continue,
        };
        *counts.entry(reason).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts
}

#[cfg(test)]
mod tests;
