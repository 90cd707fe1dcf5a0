//! The report for CI servers, in the JUnit format: a suite a run, a case a criterion.

use std::fmt::Write as _;

use super::DrillReport;

/// Escapes for XML and HTML, text and attributes alike. Control characters, which XML 1.0 can't hold at all,
/// become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Writes the report.
pub fn junit(report: &DrillReport) -> String {
    let cases: usize = report.runs.iter().map(|run| run.criteria.len()).sum();
    let failures: usize = report.runs.iter().flat_map(|run| &run.criteria).filter(|c| !c.ok).count();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(xml, "<testsuites name=\"stackctl failover-drill\" tests=\"{cases}\" failures=\"{failures}\">");
    for run in &report.runs {
        let failures = run.criteria.iter().filter(|criterion| !criterion.ok).count();
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" timestamp=\"{}\" time=\"{:.3}\">",
            escape(&run.run),
            run.criteria.len(),
            run.began,
            run.lasted_ms / 1000.0
        );
        for criterion in &run.criteria {
            let name = escape(&criterion.name);
            let detail = escape(&criterion.detail);
            let _ = write!(xml, "    <testcase classname=\"{}\" name=\"{name}\" time=\"0\"", escape(&run.scenario));
            if criterion.ok {
                let _ = writeln!(xml, "/>");
            } else {
                let _ = writeln!(xml, "><failure message=\"{detail}\">");
                for anomaly in &run.verdict.anomalies {
                    let _ = writeln!(xml, "{}", escape(&anomaly.to_string()));
                }
                let _ = writeln!(xml, "</failure></testcase>");
            }
        }
        let _ = writeln!(xml, "  </testsuite>");
    }
    xml.push_str("</testsuites>\n");
    xml
}
