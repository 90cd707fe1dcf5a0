//! What came of a load, for people and for programs.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use super::{
    Plan,
    told::{Counts, Told},
};

/// How many pods there were, and when that changed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Change {
    /// Seconds since the load began.
    pub at: f64,
    /// Pods that the autoscaler wanted.
    pub wanted: i32,
    /// Pods that were ready.
    pub ready: i32,
    /// The CPU that they used on average, in percent of what they request.
    pub cpu: Option<i32>,
}

/// Requests of a part of the run. Times in milliseconds from when a request was due.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Part {
    rate: f64,
    answered: u64,
    failed: u64,
    /// Due, and without an outcome when the run ended.
    unanswered: u64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

impl Part {
    /// `due`: how many requests should have been sent, if that is known.
    fn new(rate: f64, counts: &Counts, due: u64) -> Part {
        Part {
            unanswered: due.saturating_sub(counts.answered + counts.failed),
            rate,
            answered: counts.answered,
            failed: counts.failed,
            p50_ms: counts.p50_ms(),
            p99_ms: counts.p99_ms(),
            max_ms: counts.max as f64 / 1000.0,
        }
    }
}

/// The pods of a run. Times in seconds; `None`: it did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Pods {
    before: i32,
    most: i32,
    after: i32,
    /// From the load's begin until the first additional pod was ready.
    scale_up_s: Option<f64>,
    /// From the load's begin until the most pods were ready.
    most_ready_s: Option<f64>,
    /// From the load's end until there were no more pods than before.
    scale_down_s: Option<f64>,
}

impl Pods {
    fn new(changes: &[Change], load_ends: f64) -> Pods {
        let before = changes.first().map_or(0, |first| first.ready);
        let most = changes.iter().map(|change| change.ready).max().unwrap_or(before);
        let after = changes.last().map_or(before, |last| last.ready);
        let at = |holds: &dyn Fn(&Change) -> bool| changes.iter().find(|change| holds(change)).map(|change| change.at);
        let back = |change: &Change| change.at >= load_ends && change.ready <= before && change.wanted <= before;
        Pods {
            before,
            most,
            after,
            scale_up_s: at(&|change| change.ready > before),
            most_ready_s: at(&|change| change.ready == most && most > before),
            scale_down_s: at(&back).filter(|_| most > before).map(|at| at - load_ends),
        }
    }
}

/// The whole result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    event: &'static str,
    target: String,
    users: u32,
    seconds: u64,
    load: Part,
    scaling_back: Part,
    /// How often each reason for a failure came.
    reasons: BTreeMap<String, u64>,
    pods: Pods,
    changes: Vec<Change>,
}

impl Report {
    /// Makes it from the sender's last line and the changes that were seen.
    pub fn new(target: String, plan: &Plan, last: Told, changes: Vec<Change>) -> Report {
        let seconds = last.second.min(plan.lasts.as_secs());
        Report {
            event: "report",
            target,
            users: plan.users,
            seconds,
            load: Part::new(plan.rate, &last.load, (plan.rate * seconds as f64) as u64),
            scaling_back: Part::new(plan.trickle(), &last.tail, 0),
            reasons: last.reasons,
            pods: Pods::new(&changes, seconds as f64),
            changes,
        }
    }

    /// Requests that failed.
    pub fn failed(&self) -> u64 {
        self.load.failed + self.scaling_back.failed
    }

    /// Requests that were sent and had an outcome.
    pub fn requests(&self) -> u64 {
        self.load.answered + self.scaling_back.answered + self.failed()
    }

    /// The closing table.
    pub fn text(&self) -> String {
        let mut text = format!("{:<30}{:>12}{:>15}\n", "", "load", "scaling back");
        let mut row = |what: &str, of: &dyn Fn(&Part) -> String| {
            let _ = writeln!(text, "{what:<30}{:>12}{:>15}", of(&self.load), of(&self.scaling_back));
        };
        row("requests a second, wanted", &|part| part.rate.to_string());
        row("answered", &|part| part.answered.to_string());
        row("failed", &|part| part.failed.to_string());
        if self.load.unanswered > 0 {
            row("not answered yet at the end", &|part| part.unanswered.to_string());
        }
        row("latency, median (ms)", &|part| format!("{:.1}", part.p50_ms));
        row("latency, 99 of 100 (ms)", &|part| format!("{:.1}", part.p99_ms));
        row("latency, slowest (ms)", &|part| format!("{:.1}", part.max_ms));
        for (reason, count) in &self.reasons {
            let _ = writeln!(text, "  {count} × {reason}");
        }
        text.push('\n');
        let Pods { before, most, after, .. } = self.pods;
        let mut line = |what: &str, value: String| {
            let _ = writeln!(text, "{what:<40}  {value}");
        };
        line("pods", format!("{before} → {most} → {after}"));
        let seconds = |time: Option<f64>| time.map_or_else(|| "-".into(), |time| format!("{time:.1} s"));
        line("load's begin to first additional pod", seconds(self.pods.scale_up_s));
        line(&format!("load's begin to {most} pods"), seconds(self.pods.most_ready_s));
        line("load's end to no additional pod", seconds(self.pods.scale_down_s));
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::told::Stage;

    fn change(at: f64, wanted: i32, ready: i32) -> Change {
        Change { at, wanted, ready, cpu: None }
    }

    fn report(changes: Vec<Change>) -> Report {
        let plan = Plan { rate: 400.0, lasts: Duration::from_secs(60), users: 50, scale_down: true };
        let load = Counts { answered: 23_999, failed: 1, p50: 1_234, p99: 9_876, max: 123_456 };
        let tail = Counts { answered: 6_000, failed: 0, p50: 1_000, p99: 2_000, max: 3_000 };
        let reasons = [("HTTP 503".to_owned(), 1)].into();
        let now = Counts::default();
        let last = Told { second: 360, stage: Stage::Tail, busy: 0, waiting: 0, now, load, tail, reasons, ended: true };
        Report::new("context test".into(), &plan, last, changes)
    }

    #[test]
    fn out_and_back() {
        let report = report(vec![
            change(0.0, 2, 2),
            change(16.0, 4, 2),
            change(21.5, 4, 3),
            change(22.0, 4, 4),
            change(40.0, 10, 4),
            change(47.0, 10, 10),
            change(200.0, 5, 10),
            change(201.0, 5, 5),
            change(305.0, 2, 3),
            change(306.5, 2, 2),
        ]);
        assert_eq!((report.failed(), report.requests()), (1, 30_000));
        insta::assert_snapshot!(report.text(), @"
                                              load   scaling back
        requests a second, wanted              400             20
        answered                             23999           6000
        failed                                   1              0
        latency, median (ms)                   1.2            1.0
        latency, 99 of 100 (ms)                9.9            2.0
        latency, slowest (ms)                123.5            3.0
          1 × HTTP 503

        pods                                      2 → 10 → 2
        load's begin to first additional pod      21.5 s
        load's begin to 10 pods                   47.0 s
        load's end to no additional pod           246.5 s
        ");
    }

    #[test]
    fn what_was_still_under_way_is_told() {
        let counts = Counts { answered: 28_860, failed: 40, ..Counts::default() };
        assert_eq!(Part::new(400.0, &counts, 30_000).unanswered, 1_100);
        assert_eq!(Part::new(400.0, &counts, 0).unanswered, 0);
    }

    #[test]
    fn a_load_that_scales_nothing() {
        let report = report(vec![change(0.0, 2, 2)]);
        let pods = report.pods;
        assert_eq!((pods.before, pods.most, pods.scale_up_s, pods.scale_down_s), (2, 2, None, None));
    }
}
