//! The bytes on the wire: lines recorded from the programs of version 0.1.0 before these types were shared. Each is
//! read, and written again as the same bytes.

use serde::{Serialize, de::DeserializeOwned};
use stackctl_protocol::{
    load::{Line, Stage},
    probe::{Order, Outcome, Place, Reply, Stream, Write},
};

/// A whole conversation with a prober: `> ` before what `stackctl` sent, `< ` before what the prober did.
const PROBE: &str = include_str!("recorded/probe.txt");
/// The log of a sender, its own log lines between the reports.
const LOAD: &str = include_str!("recorded/load.txt");

fn read_and_write<T: DeserializeOwned + Serialize>(line: &str) -> T {
    let message: T = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    assert_eq!(serde_json::to_string(&message).ok().as_deref(), Some(line));
    message
}

fn lines<T: DeserializeOwned + Serialize>(mark: &str) -> Vec<T> {
    PROBE.lines().filter_map(|line| line.strip_prefix(mark)).map(read_and_write).collect()
}

#[test]
fn the_orders_to_the_prober_are_the_same_bytes() {
    let orders: Vec<Order> = lines("> ");
    let write = |key, stream, due| Write { key, stream, due };
    let expected = [
        Order::Hello { run: "failover-20261128".into() },
        Order::Clock { question: 1 },
        Order::Send { writes: vec![write(1, Stream::Sql, 1_500_000), write(2, Stream::Http, 1_600_000)] },
        Order::Send { writes: vec![write(3, Stream::Http, 1_700_000), write(4, Stream::Http, 1_800_000)] },
        Order::Confirm { up_to: 2 },
        Order::Send { writes: vec![write(5, Stream::Sql, 3_000_000), write(6, Stream::Http, 90_000_000)] },
        Order::Stop,
    ];
    assert_eq!(orders, expected);
}

#[test]
fn the_replies_of_the_prober_are_the_same_bytes() {
    let replies: Vec<Reply> = lines("< ");
    let mut outcomes = Vec::new();
    for reply in &replies {
        match reply {
            Reply::Hello { process, last_key } => assert_eq!((*process, *last_key), (1_795_848_583_473_770, 0)),
            Reply::Clock { question, now } => assert_eq!((*question, *now), (1, 1_004_902)),
            Reply::Outcome { number, key, sent, outcome, .. } => {
                assert_eq!(number, key, "one after the other");
                assert_eq!(sent.is_none(), *outcome == Outcome::Unsent);
                outcomes.push(outcome.clone());
            }
        }
    }
    let place = Place { timeline: 1, lsn: "0/1923760".into(), server: "127.0.0.1".into() };
    let expected = [
        Outcome::Acknowledged { place: Some(place) },
        Outcome::Acknowledged { place: None },
        Outcome::Acknowledged { place: None },
        Outcome::Unknown { why: "HTTP 503".into() },
        Outcome::Refused { why: r#"relation "stackctl_drill.writes" does not exist"#.into() },
        Outcome::Unsent,
    ];
    assert_eq!(outcomes, expected);
}

#[test]
fn the_reports_of_the_sender_are_the_same_bytes() {
    let reports = LOAD.lines().filter(|line| line.contains(r#""report""#)).map(|line| {
        let Line::Load(report) = read_and_write(line);
        report
    });
    let reports: Vec<_> = reports.collect();
    assert_eq!(reports.iter().map(|report| report.second).collect::<Vec<_>>(), [0, 1, 2, 2]);
    let last = reports.last().unwrap();
    assert!(last.ended && last.stage == Stage::Load && reports.iter().filter(|report| report.ended).count() == 1);
    assert_eq!((last.load.answered, last.load.failed, last.tail.answered), (75, 5, 5));
    assert_eq!((last.load.p50, last.load.p99, last.load.max), (4_095, 46_620, 46_620));
    assert_eq!(last.reasons["HTTP 503"], 1);
}

#[test]
fn a_log_line_of_the_program_is_no_report() {
    let own = LOAD.lines().find(|line| line.contains(r#""level""#)).unwrap();
    assert!(serde_json::from_str::<Line>(own).is_err());
}
