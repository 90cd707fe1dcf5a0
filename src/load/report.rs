//! The report of a load, for people and for programs.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;
use stackctl_protocol::load::{RequestCounts, SenderReport};

use super::{LoadPlan, sender_report::milliseconds};

/// A change of the number of pods.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PodCountChange {
    /// Seconds since the load began.
    pub at: f64,
    /// Pods that the autoscaler wanted.
    pub wanted: i32,
    /// Pods that were ready.
    pub ready: i32,
    /// The CPU that they used on average, in percent of what they request.
    pub cpu: Option<i32>,
}

/// The result of a stage of the run. Times in milliseconds from when a request was due.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct StageResult {
    rate: f64,
    answered: u64,
    failed: u64,
    /// Requests that were due, and had no outcome when the run ended.
    unanswered: u64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

impl StageResult {
    /// Makes the result; `due` is how many requests should have been sent, if that is known.
    fn new(rate: f64, counts: &RequestCounts, due: u64) -> StageResult {
        StageResult {
            unanswered: due.saturating_sub(counts.answered + counts.failed),
            rate,
            answered: counts.answered,
            failed: counts.failed,
            p50_ms: milliseconds(counts.p50),
            p99_ms: milliseconds(counts.p99),
            max_ms: milliseconds(counts.max),
        }
    }
}

/// The numbers of pods in a run. Times in seconds; `None` for what did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct PodCounts {
    before: i32,
    most: i32,
    after: i32,
    /// The time from the load's begin until the first additional pod was ready.
    scale_up_s: Option<f64>,
    /// The time from the load's begin until the most pods were ready.
    most_ready_s: Option<f64>,
    /// The time from the load's end until there were no more pods than before.
    scale_down_s: Option<f64>,
}

impl PodCounts {
    fn new(changes: &[PodCountChange], load_ends: f64) -> PodCounts {
        let before = changes.first().map_or(0, |first| first.ready);
        let most = changes.iter().map(|change| change.ready).max().unwrap_or(before);
        let after = changes.last().map_or(before, |last| last.ready);
        let at = |holds: &dyn Fn(&PodCountChange) -> bool| {
            changes.iter().find(|change| holds(change)).map(|change| change.at)
        };
        let back =
            |change: &PodCountChange| change.at >= load_ends && change.ready <= before && change.wanted <= before;
        PodCounts {
            before,
            most,
            after,
            scale_up_s: at(&|change| change.ready > before),
            most_ready_s: at(&|change| change.ready == most && most > before),
            scale_down_s: at(&back).filter(|_| most > before).map(|at| at - load_ends),
        }
    }
}

/// The report of a load.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoadReport {
    event: &'static str,
    target: String,
    users: u32,
    seconds: u64,
    load: StageResult,
    scaling_back: StageResult,
    /// The number of failures by their reasons.
    reasons: BTreeMap<String, u64>,
    pods: PodCounts,
    changes: Vec<PodCountChange>,
}

impl LoadReport {
    /// Makes the report of the sender's last one and of the changes that were seen.
    pub fn new(target: String, plan: &LoadPlan, last: SenderReport, changes: Vec<PodCountChange>) -> LoadReport {
        let seconds = last.second.min(plan.lasts.as_secs());
        LoadReport {
            event: "report",
            target,
            users: plan.users,
            seconds,
            load: StageResult::new(plan.rate, &last.load, (plan.rate * seconds as f64) as u64),
            scaling_back: StageResult::new(plan.tail_rate(), &last.tail, 0),
            reasons: last.reasons,
            pods: PodCounts::new(&changes, seconds as f64),
            changes,
        }
    }

    /// The requests that failed.
    pub fn failed(&self) -> u64 {
        self.load.failed + self.scaling_back.failed
    }

    /// The requests that were sent and had an outcome.
    pub fn requests(&self) -> u64 {
        self.load.answered + self.scaling_back.answered + self.failed()
    }

    /// The closing table.
    pub fn text(&self) -> String {
        let mut text = format!("{:<30}{:>12}{:>15}\n", "", "load", "scaling back");
        let mut row = |what: &str, of: &dyn Fn(&StageResult) -> String| {
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
        let PodCounts { before, most, after, .. } = self.pods;
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

    use stackctl_protocol::load::Stage;

    use super::*;

    fn change(at: f64, wanted: i32, ready: i32) -> PodCountChange {
        PodCountChange { at, wanted, ready, cpu: None }
    }

    fn report(changes: Vec<PodCountChange>) -> LoadReport {
        let plan = LoadPlan { rate: 400.0, lasts: Duration::from_secs(60), users: 50, scale_down: true };
        let load = RequestCounts { answered: 23_999, failed: 1, p50: 1_234, p99: 9_876, max: 123_456 };
        let tail = RequestCounts { answered: 6_000, failed: 0, p50: 1_000, p99: 2_000, max: 3_000 };
        let reasons = [("HTTP 503".to_owned(), 1)].into();
        let now = RequestCounts::default();
        let last = SenderReport {
            second: 360,
            stage: Stage::Tail,
            busy: 0,
            waiting: 0,
            now,
            load,
            tail,
            reasons,
            ended: true,
        };
        LoadReport::new("context test".into(), &plan, last, changes)
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
    fn what_was_still_under_way_is_reported() {
        let counts = RequestCounts { answered: 28_860, failed: 40, ..RequestCounts::default() };
        assert_eq!(StageResult::new(400.0, &counts, 30_000).unanswered, 1_100);
        assert_eq!(StageResult::new(400.0, &counts, 0).unanswered, 0);
    }

    #[test]
    fn a_load_that_scales_nothing() {
        let report = report(vec![change(0.0, 2, 2)]);
        let pods = report.pods;
        assert_eq!((pods.before, pods.most, pods.scale_up_s, pods.scale_down_s), (2, 2, None, None));
    }
}
