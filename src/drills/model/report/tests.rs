//! The reports of a run whose figures are known.

use super::*;
use crate::{
    database::Lsn,
    drills::model::{
        events::EventKind,
        history::{Attempt, Place},
        times::measure,
        verdict::{FinalState, InstanceRows, judge},
    },
};

const SECOND: Micros = 1_000_000;

/// Ten writes a second in each stream for 20 s; the database is away from 5 s to 8 s. HTTP waits, SQL fails.
/// The fault's name and a reason hold what must not reach HTML or XML as it is.
fn run(lose: bool) -> DrillRun {
    let mut history = History::default();
    for key in 0..400_u64 {
        let stream = if key % 2 == 0 { Stream::Sql } else { Stream::Http };
        let due = key / 2 * SECOND / 10;
        let away = (5 * SECOND..8 * SECOND).contains(&due);
        let timeline = if due < 5 * SECOND { 1 } else { 2 };
        let place = Place { timeline, lsn: Lsn(1000 + key), server: "10.0.0.9".into() };
        let ack = Outcome::Acknowledged { place: (stream == Stream::Sql).then_some(place) };
        let (outcome, done) = match (away, stream) {
            (true, Stream::Sql) => (Outcome::Refused { why: "<refused> & \"gone\"".into() }, due + 2_000),
            (true, Stream::Http) => (ack, 8 * SECOND + 10_000),
            _ => (ack, due + 4_000),
        };
        history.attempts.insert(key, Attempt { key, stream, due, sent: Some(due), done: Some(done), outcome });
    }
    let event = |at, kind, text: &str| DrillEvent { at, kind, text: text.into() };
    let events = vec![
        event(0, EventKind::Started, ""),
        event(5 * SECOND, EventKind::Injected, "pod <user-db-1> deleted"),
        event(5 * SECOND + 80_000, EventKind::PrimaryUnhealthy, "user-db-1"),
        event(7 * SECOND, EventKind::Promoted, "user-db-2"),
        event(15 * SECOND, EventKind::RedundancyRestored, "3/3"),
    ];
    let mut rows: std::collections::BTreeMap<u64, u32> =
        history.attempts.values().filter(|a| a.acknowledged()).map(|a| (a.key, 1)).collect();
    if lose {
        rows.remove(&0);
    }
    let instances = (1..=3).map(|n| InstanceRows { name: format!("user-db-{n}"), rows: rows.clone() }).collect();
    let verdict = judge(&history, &FinalState { instances, forks: Vec::new() });
    DrillRun {
        run: "20260102-030405-primary-delete".into(),
        scenario: "primary-delete".into(),
        title: "The primary's pod is deleted".into(),
        began: jiff::Timestamp::UNIX_EPOCH,
        lasted_ms: 20_000.0,
        rate: 10.0,
        pass: verdict.pass,
        criteria: vec![Criterion {
            name: "nothing acknowledged is lost".into(),
            ok: !lose,
            detail: format!("{} lost", verdict.anomalies.len()),
        }],
        times: measure(&history, &events, 20 * SECOND),
        series: series(&history, 20 * SECOND),
        reasons: reasons(&history),
        verdict,
        events,
        forks: Vec::new(),
        clock_error_ms: 0.4,
    }
}

#[test]
fn the_summary_of_a_good_run() {
    insta::assert_snapshot!(text::summary(&run(false)));
}

#[test]
fn the_summary_of_a_loss_names_it() {
    let text = text::summary(&run(true));
    assert!(text.starts_with("FAIL"), "{text}");
    assert!(text.contains("acknowledged and lost: key 0: SQL write (written at 0/3E8 on timeline 1)"), "{text}");
}

#[test]
fn the_page_is_self_contained_and_escaped() {
    let page = html(&DrillReport::new(Environment::default(), vec![run(false), run(true)]));
    for outside in ["http:", "https:", "//", "src=", "href=", "url(", "@import", "<script"] {
        assert!(!page.contains(outside), "{outside} in the page");
    }
    assert!(page.contains("&lt;refused&gt; &amp; &quot;gone&quot;") && !page.contains("<refused>"));
    assert!(page.contains("<svg") && page.contains("fault injected 0.000 s"));
    assert!(!page.contains("NaN") && !page.contains("inf"), "a figure of the picture is not a number");
}

#[test]
fn a_run_without_a_write_can_be_drawn() {
    let mut empty = run(false);
    empty.series.clear();
    empty.times = measure(&History::default(), &[], 0);
    let page = html(&DrillReport::new(Environment::default(), vec![empty]));
    assert!(!page.contains("NaN"));
}

#[test]
fn junit_counts_and_explains_failures() {
    let xml = junit(&DrillReport::new(Environment::default(), vec![run(false), run(true)]));
    assert!(xml.contains("tests=\"2\" failures=\"1\">"), "{xml}");
    assert!(xml.contains("<failure message=\"3 lost\">"), "{xml}");
    assert_eq!(xml.matches("<testcase").count(), 2);
}

#[test]
fn the_json_report_is_read_back() {
    let report = DrillReport::new(Environment::default(), vec![run(true)]);
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<DrillReport>(&json).unwrap(), report);
}

#[test]
fn buckets_hold_every_write() {
    let run = run(false);
    let acknowledged: u64 = run.series.iter().flat_map(|s| &s.buckets).map(|b| b.acknowledged).sum();
    let failed: u64 = run.series.iter().flat_map(|s| &s.buckets).map(|b| b.failed).sum();
    assert_eq!((acknowledged, failed), (370, 30));
}

#[test]
fn the_distribution_has_min_median_and_max() {
    let text = text::distribution(&[run(false), run(false), run(true)]);
    assert!(text.starts_with("2 of 3 runs passed"), "{text}");
    assert!(text.contains("HTTP: longest gap"), "{text}");
}
