//! The sender's report of each second, a line of JSON in its log: how it is read, and shown to people.

use stackctl_protocol::load::{Line, SenderReport};

/// Reads a line of the sender's log, which has lines of the program's own, too.
pub fn parse(line: &str) -> Option<SenderReport> {
    let Line::Load(report) = serde_json::from_str(line).ok()?;
    Some(report)
}

/// Microseconds as milliseconds.
pub fn milliseconds(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// The report in words.
pub fn text(report: &SenderReport) -> String {
    let failed = report.load.failed + report.tail.failed;
    let now = &report.now;
    let (p50, p99) = (milliseconds(now.p50), milliseconds(now.p99));
    let mut text = format!("{}/s, p50 {p50:.1} ms, p99 {p99:.1} ms, {failed} failed", now.answered);
    if report.waiting > 0 {
        text.push_str(&format!(", {} behind", report.waiting));
    }
    text
}

#[cfg(test)]
mod tests {
    use stackctl_protocol::load::Stage;

    use super::*;

    #[test]
    fn a_report_is_told_from_the_programs_own_log() {
        let line = r#"{"report":"load","second":3,"stage":"load","busy":2,"waiting":7,
            "now":{"answered":400,"failed":0,"p50":1200,"p99":9100,"max":20000},
            "load":{"answered":1200,"failed":1,"p50":1200,"p99":9100,"max":20000},
            "tail":{"answered":0,"failed":0,"p50":0,"p99":0,"max":0},"reasons":{"HTTP 503":1},"ended":false}"#;
        let report = parse(line).unwrap();
        assert_eq!((report.second, report.stage, report.load.failed), (3, Stage::Load, 1));
        assert_eq!(text(&report), "400/s, p50 1.2 ms, p99 9.1 ms, 1 failed, 7 behind");
        assert!(parse(r#"{"level":"INFO","message":"ready"}"#).is_none());
    }
}
