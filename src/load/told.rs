//! What the sender tells each second: a line of JSON in its log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A part of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The load itself.
    Load,
    /// The trickle after it.
    Tail,
}

/// What came of requests. Times in microseconds, from when a request was due until its whole answer was there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Counts {
    /// Answered as they should be.
    pub answered: u64,
    /// All others.
    pub failed: u64,
    /// Half of the answers came within this time.
    pub p50: u64,
    /// 99 of 100 answers came within this time.
    pub p99: u64,
    /// The slowest answer.
    pub max: u64,
}

impl Counts {
    /// In milliseconds.
    pub fn p50_ms(&self) -> f64 {
        self.p50 as f64 / 1000.0
    }

    /// In milliseconds.
    pub fn p99_ms(&self) -> f64 {
        self.p99 as f64 / 1000.0
    }
}

/// A line.
#[derive(Debug, Clone, Deserialize)]
pub struct Told {
    /// Seconds since the start.
    pub second: u64,
    /// Which part of the run that second was in.
    pub stage: Stage,
    /// Users that wait for an answer.
    pub busy: u64,
    /// Requests that wait for a free user.
    pub waiting: u64,
    /// Since the line before.
    pub now: Counts,
    /// Of the load so far.
    pub load: Counts,
    /// Of the trickle so far.
    pub tail: Counts,
    /// How often each reason for a failure came.
    pub reasons: BTreeMap<String, u64>,
    /// It is the last line.
    pub ended: bool,
}

impl Told {
    /// Reads a line of the sender's log, which has lines of the program's own, too.
    pub fn parse(line: &str) -> Option<Told> {
        line.contains(r#""report":"load""#).then(|| serde_json::from_str(line).ok())?
    }

    /// For people.
    pub fn text(&self) -> String {
        let Counts { answered, .. } = self.now;
        let failed = self.load.failed + self.tail.failed;
        let mut text =
            format!("{answered}/s, p50 {:.1} ms, p99 {:.1} ms, {failed} failed", self.now.p50_ms(), self.now.p99_ms());
        if self.waiting > 0 {
            text.push_str(&format!(", {} behind", self.waiting));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_told_from_the_programs_own_log() {
        let line = r#"{"report":"load","second":3,"stage":"load","busy":2,"waiting":7,
            "now":{"answered":400,"failed":0,"p50":1200,"p99":9100,"max":20000},
            "load":{"answered":1200,"failed":1,"p50":1200,"p99":9100,"max":20000},
            "tail":{"answered":0,"failed":0,"p50":0,"p99":0,"max":0},"reasons":{"HTTP 503":1},"ended":false}"#;
        let told = Told::parse(line).unwrap();
        assert_eq!((told.second, told.stage, told.load.failed), (3, Stage::Load, 1));
        assert_eq!(told.text(), "400/s, p50 1.2 ms, p99 9.1 ms, 1 failed, 7 behind");
        assert!(Told::parse(r#"{"level":"INFO","message":"ready"}"#).is_none());
    }
}
