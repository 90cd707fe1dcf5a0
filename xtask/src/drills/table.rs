//! The reports of drills as a table in Markdown.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::stats::{median, thousands};

/// The scenarios that lose writes: one on purpose, for the checker to find, the other the end of what was archived.
const LOSE: [&str; 2] = ["control", "disaster"];

/// The measurements of one scenario on clusters of so many nodes.
#[derive(Debug, Default)]
struct DrillRow {
    runs: usize,
    /// The runs that ended without a report.
    unreported: usize,
    passed: usize,
    acknowledged: u64,
    lost: usize,
    failed: u64,
    gaps: Vec<f64>,
    redundancy: Vec<f64>,
}

/// Lists the runs of a report.
pub fn runs(report: &Value) -> impl Iterator<Item = &Value> {
    report["runs"].as_array().into_iter().flatten()
}

/// The entry of a run that ended without a report: a table that left it out would show the good ones only.
pub fn without_report(scenario: &str, nodes: u32, why: &str) -> Value {
    json!({"environment": {"nodes": nodes}, "runs": [{"scenario": scenario, "pass": false, "no_report": why}]})
}

/// The table, a row a scenario in the order in which they first come.
pub fn markdown(reports: &[Value]) -> String {
    let mut order: Vec<(String, u64)> = Vec::new();
    let mut rows: BTreeMap<(String, u64), DrillRow> = BTreeMap::new();
    for report in reports {
        let nodes = report["environment"]["nodes"].as_u64().unwrap_or(1);
        for run in runs(report) {
            let key = (run["scenario"].as_str().unwrap_or("?").to_owned(), nodes);
            if !order.contains(&key) {
                order.push(key.clone());
            }
            rows.entry(key).or_default().add(run);
        }
    }
    let mut lines = vec![
        "| scenario | nodes | passed | acknowledged writes | lost | longest pause of SQL writes, s | failed web requests | 3/3 again, s |".to_owned(),
        "|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    let mut total = (0, 0);
    for key in &order {
        let row = &rows[key];
        if !LOSE.contains(&key.0.as_str()) {
            total = (total.0 + row.acknowledged, total.1 + row.lost);
        }
        lines.push(format!(
            "| `{}` | {} | {} of {}{} | {} | {} | {} | {} | {} |",
            key.0,
            key.1,
            row.passed,
            row.runs,
            if row.unreported == 0 { String::new() } else { format!(", {} without a report", row.unreported) },
            thousands(row.acknowledged),
            row.lost,
            if row.gaps.is_empty() { "-".to_owned() } else { spread(&row.gaps) },
            row.failed,
            spread(&row.redundancy)
        ));
    }
    lines.push(String::new());
    lines.push(format!(
        "In all but {}: {} acknowledged writes, {} lost.",
        LOSE.join(" and "),
        thousands(total.0),
        total.1
    ));
    lines.join("\n")
}

impl DrillRow {
    fn add(&mut self, run: &Value) {
        self.runs += 1;
        self.unreported += usize::from(run["no_report"].is_string());
        self.passed += usize::from(run["pass"] == true);
        let verdict = &run["verdict"];
        let count = |stream: &str, what: &str| verdict[stream][what].as_u64().unwrap_or(0);
        self.acknowledged += count("sql", "acknowledged") + count("http", "acknowledged");
        self.failed +=
            ["refused", "unknown_stored", "unknown_absent"].map(|what| count("http", what)).iter().sum::<u64>();
        let findings = verdict["findings"].as_array().into_iter().flatten();
        let lost = findings.filter(|finding| finding["wrong"] == "lost").filter_map(|finding| finding["key"].as_u64());
        self.lost += lost.collect::<BTreeSet<_>>().len();
        let interruptions = run["times"]["interruptions"].as_array().into_iter().flatten();
        let sql = interruptions.filter(|interruption| interruption["stream"] == "sql");
        self.gaps.extend(sql.filter_map(|interruption| interruption["longest_gap_ms"].as_f64()));
        self.redundancy.extend(run["times"]["redundancy_ms"].as_f64());
    }
}

/// A spread as `1.9 / 2.3 / 4.0`: the least, the median and the most, of milliseconds, in seconds.
fn spread(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (sorted.first(), sorted.last()) else { return "never".to_owned() };
    let median = median(&sorted);
    if sorted.len() == 1 {
        return format!("{:.1}", median / 1000.0);
    }
    format!("{:.1} / **{:.1}** / {:.1}", least / 1000.0, median / 1000.0, most / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(scenario: &str, gap: f64, findings: &Value) -> Value {
        json!({"environment": {"nodes": 1}, "runs": [{
            "scenario": scenario, "pass": true,
            "verdict": {"sql": {"acknowledged": 1000}, "http": {"acknowledged": 1200, "refused": 2}, "findings": findings},
            "times": {"redundancy_ms": 12_000.0, "interruptions": [{"stream": "sql", "longest_gap_ms": gap}]},
        }]})
    }

    #[test]
    fn rows_are_sums_and_spreads() {
        let lost = json!([{"wrong": "lost", "key": 1}, {"wrong": "lost", "key": 1}, {"wrong": "lost", "key": 2}]);
        let none = json!([]);
        let reports = [
            report("primary-delete", 2_000.0, &none),
            report("primary-delete", 3_000.0, &none),
            report("primary-delete", 5_100.0, &none),
            report("control", 7_000.0, &lost),
        ];
        let text = markdown(&reports);
        assert!(text.contains("| `primary-delete` | 1 | 3 of 3 | 6,600 | 0 | 2.0 / **3.0** / 5.1 | 6 |"), "{text}");
        assert!(text.contains("| `control` | 1 | 1 of 1 | 2,200 | 2 | 7.0 | 2 | 12.0 |"), "{text}");
        assert!(text.ends_with("In all but control and disaster: 6,600 acknowledged writes, 0 lost."), "{text}");
    }

    #[test]
    fn a_run_without_a_report_is_counted() {
        let reports = [
            report("freeze", 2_000.0, &json!([])),
            without_report("freeze", 1, "the drill freeze gave no report"),
            without_report("partition", 1, "the drill partition gave no report"),
        ];
        let text = markdown(&reports);
        assert!(text.contains("| `freeze` | 1 | 1 of 2, 1 without a report | 2,200 |"), "{text}");
        assert!(text.contains("| `partition` | 1 | 0 of 1, 1 without a report | 0 | 0 | - | 0 | never |"), "{text}");
    }
}
