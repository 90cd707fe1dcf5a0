//! The sender's report: a line of JSON each second, to standard output, which the pod's log keeps.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use stackctl_protocol::load::{Line, RequestCounts, SenderReport, Stage};

use super::histogram::Histogram;

/// The reasons of failures that are told apart at most; further ones are counted as one.
const REASONS: usize = 20;

/// The outcomes of requests, with every latency.
#[derive(Debug, Clone, Default)]
struct Outcomes {
    answered: u64,
    failed: u64,
    times: Histogram,
}

impl Outcomes {
    fn counts(&self) -> RequestCounts {
        let Self { answered, failed, times } = self;
        let (p50, p99) = (times.quantile(0.5), times.quantile(0.99));
        RequestCounts { answered: *answered, failed: *failed, p50, p99, max: times.largest() }
    }
}

/// The outcomes since the report before, and so far.
#[derive(Debug, Default)]
struct Totals {
    now: Outcomes,
    load: Outcomes,
    tail: Outcomes,
    reasons: BTreeMap<String, u64>,
}

/// The tally of outcomes, which tasks add to side by side.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Totals>);

impl Tally {
    fn totals(&self) -> MutexGuard<'_, Totals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request of `stage` that was answered, so long after it was due.
    pub fn count_answer(&self, stage: Stage, micros: u64) {
        let mut totals = self.totals();
        let Totals { now, load, tail, .. } = &mut *totals;
        for counts in [now, if stage == Stage::Load { load } else { tail }] {
            counts.answered += 1;
            counts.times.record(micros);
        }
    }

    /// Counts a request of `stage` that failed.
    pub fn count_failure(&self, stage: Stage, why: String) {
        let mut totals = self.totals();
        let Totals { now, load, tail, reasons } = &mut *totals;
        now.failed += 1;
        let counts = if stage == Stage::Load { load } else { tail };
        counts.failed += 1;
        let why = if reasons.len() < REASONS || reasons.contains_key(&why) { why } else { "other".into() };
        *reasons.entry(why).or_default() += 1;
    }

    /// Writes the report of a second, and begins the next one.
    pub fn report(&self, second: u64, stage: Stage, (busy, waiting): (u64, u64), ended: bool) -> anyhow::Result<()> {
        let mut totals = self.totals();
        let now = std::mem::take(&mut totals.now).counts();
        let (load, tail, reasons) = (totals.load.counts(), totals.tail.counts(), totals.reasons.clone());
        let report = SenderReport { second, stage, busy, waiting, now, load, tail, reasons, ended };
        let mut text = serde_json::to_string(&Line::Load(report))?;
        text.push('\n');
        std::io::stdout().lock().write_all(text.as_bytes())?;
        Ok(())
    }

    #[cfg(test)]
    pub fn summary(&self) -> (u64, u64, u64, BTreeMap<String, u64>) {
        let totals = self.totals();
        let Totals { load, tail, reasons, .. } = &*totals;
        (load.answered + tail.answered, load.failed, load.times.quantile(0.5), reasons.clone())
    }
}
