//! The closing summary on the terminal.

use super::{
    super::{history::Stream, verdict::AnomalyKind},
    DrillRun,
};
use crate::stats::{median, thousands};

/// The summary of one run: what a manager needs first, then what an engineer asks for.
pub fn summary(run: &DrillRun) -> String {
    let verdict = &run.verdict;
    let outcome = if run.pass { "PASS" } else { "FAIL" };
    let mut lines = vec![format!("{outcome}  {}  ({})", run.title, run.run), String::new()];
    let acknowledged = verdict.sql.acknowledged + verdict.http.acknowledged;
    let wrong = match (verdict.anomalies.is_empty(), run.times.lost_ms) {
        (true, _) => "none was lost, none doubled, none appeared from nowhere".to_owned(),
        (false, Some(oldest)) => format!(
            "{} were lost, the oldest acknowledged {} before the fault",
            thousands(verdict.writes(AnomalyKind::Lost) as u64),
            seconds(oldest)
        ),
        (false, None) => format!("{} findings, see below", verdict.anomalies.len()),
    };
    lines.push(format!("  {} writes were acknowledged: {wrong}.", thousands(acknowledged)));
    for interruption in &run.times.interruptions {
        let counts = verdict.counts(interruption.stream);
        let who = match interruption.stream {
            Stream::Http => "Users of the web app",
            Stream::Sql => "SQL clients",
        };
        let unknown = counts.unknown_stored + counts.unknown_absent;
        let failed = match (counts.refused, unknown) {
            (0, 0) => "no request failed".to_owned(),
            (refused, 0) => format!("{} requests were refused", thousands(refused)),
            (refused, unknown) => format!(
                "{} requests were refused, {} had no sure answer ({} of them are stored)",
                thousands(refused),
                thousands(unknown),
                thousands(counts.unknown_stored)
            ),
        };
        let gap = seconds(interruption.longest_gap_ms);
        lines.push(match interruption.recovery_ms {
            Some(recovery) => {
                format!("  {who} waited {gap} at the longest, until {} after the fault; {failed}.", seconds(recovery))
            }
            None => format!("  {who} waited {gap}, to the end of the drill, in vain; {failed}."),
        });
    }
    lines.push(match run.times.redundancy_ms {
        Some(restored) => format!("  Full redundancy was back {} after the fault.", seconds(restored)),
        None => "  Full redundancy did not come back.".to_owned(),
    });

    lines.extend([String::new(), "  After the fault".to_owned()]);
    for step in &run.times.steps {
        lines.push(format!("    {:>9}  {:<24} {}", seconds(step.after_ms), step.kind.title(), step.text));
    }
    lines.extend([String::new(), "  Latency               writes  failed      p50      p99      max".to_owned()]);
    for interruption in &run.times.interruptions {
        for (name, phase) in ["before", "during", "after"].iter().zip(&interruption.phases) {
            lines.push(format!(
                "    {:<5} {:<7}     {:>10} {:>7} {:>8} {:>8} {:>8}",
                interruption.stream.name(),
                name,
                thousands(phase.due),
                thousands(phase.failed),
                seconds(phase.p50_ms),
                seconds(phase.p99_ms),
                seconds(phase.max_ms)
            ));
        }
    }
    lines.extend([String::new(), "  Criteria".to_owned()]);
    for criterion in &run.criteria {
        let mark = if criterion.ok { "ok  " } else { "FAIL" };
        lines.push(format!("    {mark}  {}: {}", criterion.name, criterion.detail));
    }
    for anomaly in verdict.anomalies.iter().take(SHOWN) {
        lines.push(format!("    !     {anomaly}"));
    }
    if verdict.anomalies.len() > SHOWN {
        lines.push(format!("    !     and {} more in the JSON report", verdict.anomalies.len() - SHOWN));
    }
    lines.join("\n")
}

/// Findings on the terminal; all of them are in the JSON report.
const SHOWN: usize = 10;

/// The distribution over several runs; empty for one.
pub fn distribution(runs: &[DrillRun]) -> String {
    if runs.len() < 2 {
        return String::new();
    }
    let passed = runs.iter().filter(|run| run.pass).count();
    let mut lines = vec![format!("{passed} of {} runs passed", runs.len())];
    let mut row = |name: String, values: Vec<Option<f64>>| {
        let mut known: Vec<f64> = values.iter().copied().flatten().collect();
        known.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (known.first(), known.last()) else { return };
        let missing = values.len() - known.len();
        let missing = if missing > 0 { format!("  ({missing} never)") } else { String::new() };
        lines.push(format!(
            "  {name:<34} min {:>8}  median {:>8}  max {:>8}{missing}",
            seconds(*min),
            seconds(median(&known)),
            seconds(*max)
        ));
    };
    for stream in Stream::ALL {
        let of = |value: fn(&super::super::times::Interruption) -> Option<f64>| {
            runs.iter().map(|run| run.times.of(stream).and_then(value)).collect::<Vec<_>>()
        };
        row(format!("{stream}: longest gap"), of(|i| Some(i.longest_gap_ms)));
        row(format!("{stream}: fault to first write"), of(|i| i.recovery_ms));
    }
    row("full redundancy".into(), runs.iter().map(|run| run.times.redundancy_ms).collect());
    lines.join("\n")
}

/// `0.004 s`, `2.94 s`, `12.4 s`.
pub fn seconds(millis: f64) -> String {
    let seconds = millis / 1000.0;
    match seconds.abs() {
        s if s < 0.1 => format!("{seconds:.3} s"),
        s if s < 10.0 => format!("{seconds:.2} s"),
        _ => format!("{seconds:.1} s"),
    }
}
