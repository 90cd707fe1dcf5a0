//! What is told: a line of JSON each second, to standard output, which the pod's log keeps.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::histogram::Histogram;

/// Reasons of failures that are told apart at most; further ones are counted as one.
const REASONS: usize = 20;

/// A part of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The load itself.
    Load,
    /// The trickle after it, while the autoscaler takes pods away.
    Tail,
}

/// What came of requests.
#[derive(Debug, Clone, Default)]
struct Counts {
    answered: u64,
    failed: u64,
    times: Histogram,
}

/// [`Counts`] as they are told. Times in microseconds, from when a request was due.
#[derive(Debug, Serialize)]
struct Told {
    answered: u64,
    failed: u64,
    p50: u64,
    p99: u64,
    max: u64,
}

impl Counts {
    fn told(&self) -> Told {
        let Self { answered, failed, times } = self;
        let (p50, p99) = (times.quantile(0.5), times.quantile(0.99));
        Told { answered: *answered, failed: *failed, p50, p99, max: times.largest() }
    }
}

#[derive(Debug, Serialize)]
#[serde(tag = "report", rename = "load")]
struct Line<'a> {
    /// Seconds since the start.
    second: u64,
    stage: Stage,
    /// Users that are waiting for an answer.
    busy: u64,
    /// Requests whose time has come and that no user is free for.
    waiting: u64,
    /// Since the line before.
    now: Told,
    load: Told,
    tail: Told,
    /// Of all failures so far.
    reasons: &'a BTreeMap<String, u64>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Kept {
    now: Counts,
    load: Counts,
    tail: Counts,
    reasons: BTreeMap<String, u64>,
}

/// Collects what came of requests.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Kept>);

impl Tally {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request of `stage` was answered, so long after it was due.
    pub fn answered(&self, stage: Stage, micros: u64) {
        let mut kept = self.kept();
        let Kept { now, load, tail, .. } = &mut *kept;
        for counts in [now, if stage == Stage::Load { load } else { tail }] {
            counts.answered += 1;
            counts.times.record(micros);
        }
    }

    /// A request of `stage` failed.
    pub fn failed(&self, stage: Stage, why: String) {
        let mut kept = self.kept();
        let Kept { now, load, tail, reasons } = &mut *kept;
        now.failed += 1;
        let counts = if stage == Stage::Load { load } else { tail };
        counts.failed += 1;
        let why = if reasons.len() < REASONS || reasons.contains_key(&why) { why } else { "other".into() };
        *reasons.entry(why).or_default() += 1;
    }

    /// Writes a line.
    pub fn tell(&self, second: u64, stage: Stage, (busy, waiting): (u64, u64), ended: bool) -> anyhow::Result<()> {
        let mut kept = self.kept();
        let now = std::mem::take(&mut kept.now).told();
        let (load, tail, reasons) = (kept.load.told(), kept.tail.told(), &kept.reasons);
        let line = Line { second, stage, busy, waiting, now, load, tail, reasons, ended };
        let mut text = serde_json::to_string(&line)?;
        text.push('\n');
        std::io::stdout().lock().write_all(text.as_bytes())?;
        Ok(())
    }

    #[cfg(test)]
    pub fn totals(&self) -> (u64, u64, u64, BTreeMap<String, u64>) {
        let kept = self.kept();
        (kept.load.answered + kept.tail.answered, kept.load.failed, kept.load.times.quantile(0.5), kept.reasons.clone())
    }
}
