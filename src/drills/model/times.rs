//! How long it took: from the history and the events, on one clock.

use serde::{Deserialize, Serialize};

use super::{
    events::{DrillEvent, EventKind},
    history::{Attempt, History, Micros, Stream},
    verdict::{AnomalyKind, Verdict},
};

/// A step of the recovery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecoveryStep {
    /// The kind of the step.
    pub kind: EventKind,
    /// Milliseconds after the fault; less than zero when it came before the fault was reported to be in.
    pub after_ms: f64,
    /// The step in words, e.g. the new primary.
    pub text: String,
}

/// What one stream's users felt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interruption {
    /// Which stream.
    pub stream: Stream,
    /// The longest time without an acknowledgement, of all that end after the fault, in milliseconds.
    pub longest_gap_ms: f64,
    /// From the fault to the acknowledgement that ends that gap: the recovery time. `None`: it never came.
    pub recovery_ms: Option<f64>,
    /// Before the fault, from the fault to full redundancy, and after.
    pub phases: [PhaseLatency; 3],
    /// From when the last acknowledged write was due to when the last of all was, in milliseconds: what goes on to be
    /// acknowledged ends near 0. `None` in reports of versions before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unanswered_end_ms: Option<f64>,
}

/// Latencies of the writes that were due in a part of the run, counted from when they were due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseLatency {
    /// How long the part lasted, in milliseconds.
    pub lasted_ms: f64,
    /// Writes that were due.
    pub due: u64,
    /// Of them acknowledged.
    pub acknowledged: u64,
    /// Of them refused or without an answer.
    pub failed: u64,
    /// Median latency of the acknowledged, in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile, in milliseconds.
    pub p99_ms: f64,
    /// The longest, in milliseconds.
    pub max_ms: f64,
}

/// Every time of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// When the fault was in, in milliseconds after the run's start.
    pub injected_ms: f64,
    /// The steps of the recovery, each where it came first (redundancy: where it came last), in time's order.
    pub steps: Vec<RecoveryStep>,
    /// From the fault to full redundancy, in milliseconds. `None`: it never came.
    pub redundancy_ms: Option<f64>,
    /// The streams that were written to.
    pub interruptions: Vec<Interruption>,
    /// How long before the fault the oldest of the lost writes was acknowledged, in milliseconds. `None`: none is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_ms: Option<f64>,
    /// Lost writes that were acknowledged before a write was sent which is still there: what is there is then no prefix of
    /// what was acknowledged. `None`: there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holes: Option<u64>,
    /// The newest timeline that acknowledged a write before the fault, and the newest of the whole run, as far as the
    /// writes tell theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timelines: Option<[u32; 2]>,
}

impl Times {
    /// What a stream's users felt.
    pub fn of(&self, stream: Stream) -> Option<&Interruption> {
        self.interruptions.iter().find(|interruption| interruption.stream == stream)
    }

    /// When a step came, in milliseconds after the fault.
    pub fn step(&self, kind: EventKind) -> Option<f64> {
        self.steps.iter().find(|step| step.kind == kind).map(|step| step.after_ms)
    }
}

/// Microseconds as milliseconds, for reports.
pub fn millis(micros: Micros) -> f64 {
    // Far below 2^52: exact.
    micros as f64 / 1000.0
}

/// The times of a run, measured; `end` is when the writes ended.
pub fn measure(history: &History, events: &[DrillEvent], end: Micros) -> Times {
    let injected = first(events, EventKind::Injected).unwrap_or(end);
    // What came and did not stay has not come.
    let latest = |kind| events.iter().filter(|e| e.kind == kind && e.at >= injected).map(|e| e.at).max();
    let restored = latest(EventKind::RedundancyRestored).filter(|at| Some(*at) > latest(EventKind::RedundancyLost));
    let after = |at: Micros| millis(at) - millis(injected);
    let begun = first(events, EventKind::Started).unwrap_or(0);

    let mut steps: Vec<RecoveryStep> = Vec::new();
    for event in events.iter().filter(|event| !matches!(event.kind, EventKind::Started | EventKind::Note)) {
        let step = RecoveryStep { kind: event.kind, after_ms: after(event.at), text: event.text.clone() };
        match steps.iter_mut().find(|other| other.kind == event.kind) {
            Some(other) if event.kind == EventKind::RedundancyRestored => *other = step,
            Some(_) => {}
            None => steps.push(step),
        }
    }
    steps.sort_by(|a, b| a.after_ms.total_cmp(&b.after_ms));

    let recovered = restored.unwrap_or(end);
    let bounds = [(begun, injected), (injected, recovered), (recovered, end.max(recovered))];
    let interruptions = Stream::ALL
        .into_iter()
        .filter(|stream| history.of(*stream).next().is_some())
        .map(|stream| {
            let (longest_gap, recovery) = gap(&history.acknowledgements(stream), begun, injected, end);
            Interruption {
                stream,
                longest_gap_ms: millis(longest_gap),
                recovery_ms: recovery.map(after),
                phases: bounds.map(|(from, to)| latency(history, stream, from, to)),
                unanswered_end_ms: Some(millis(unanswered_end(history, stream))),
            }
        })
        .collect();
    Times {
        injected_ms: millis(injected),
        steps,
        redundancy_ms: restored.map(after),
        interruptions,
        lost_ms: None,
        holes: None,
        timelines: timelines(history, injected),
    }
}

/// From when the last acknowledged write of a stream was due to when the last that was tried was.
fn unanswered_end(history: &History, stream: Stream) -> Micros {
    let tried = || history.of(stream).filter(|attempt| attempt.outcome != super::history::Outcome::Unsent);
    let last = tried().map(|attempt| attempt.due).max().unwrap_or(0);
    let acknowledged = tried().filter(|attempt| attempt.acknowledged()).map(|attempt| attempt.due).max().unwrap_or(0);
    last - acknowledged
}

fn timelines(history: &History, injected: Micros) -> Option<[u32; 2]> {
    let placed = || history.attempts.values().filter_map(|attempt| Some((attempt.done?, attempt.place()?.timeline)));
    let before = placed().filter(|(done, _)| *done <= injected).map(|(_, timeline)| timeline).max()?;
    Some([before, placed().map(|(_, timeline)| timeline).max()?])
}

/// How many of the lost writes were acknowledged before one was sent that is there, of those acknowledged before the fault:
/// a restore, which brings back a prefix, leaves none.
pub fn holes(history: &History, verdict: &Verdict, injected_ms: f64) -> Option<u64> {
    let lost: std::collections::BTreeSet<u64> = verdict
        .anomalies
        .iter()
        .filter(|anomaly| anomaly.kind == AnomalyKind::Lost)
        .filter_map(|anomaly| anomaly.key)
        .collect();
    let before = |attempt: &&Attempt| attempt.done.is_some_and(|done| millis(done) <= injected_ms);
    let there = history.attempts.values().filter(|attempt| attempt.acknowledged() && !lost.contains(&attempt.key));
    let newest_there = there.filter(before).filter_map(|attempt| attempt.sent).max()?;
    let is_hole = |key: &&u64| history.attempts.get(key).and_then(|attempt| attempt.done) < Some(newest_there);
    let found = lost.iter().filter(|key| history.attempts.get(key).is_some_and(|attempt| attempt.done.is_some()));
    let holes = found.filter(is_hole).count() as u64;
    (holes > 0).then_some(holes)
}

/// How long before the fault the oldest of the lost writes was acknowledged, in milliseconds.
pub fn lost(history: &History, verdict: &Verdict, injected_ms: f64) -> Option<f64> {
    let lost = verdict.anomalies.iter().filter(|anomaly| anomaly.kind == AnomalyKind::Lost);
    let done = lost.filter_map(|anomaly| history.attempts.get(&anomaly.key?)?.done);
    done.min().map(|oldest| injected_ms - millis(oldest))
}

fn first(events: &[DrillEvent], kind: EventKind) -> Option<Micros> {
    events.iter().find(|event| event.kind == kind).map(|event| event.at)
}

/// The longest gap between acknowledgements that ends after the fault, and its end. The run's own end closes
/// a gap without an end of its own: an outage that never ended must not look short.
fn gap(acknowledged: &[Micros], begun: Micros, injected: Micros, end: Micros) -> (Micros, Option<Micros>) {
    let mut longest = (0, None);
    let mut previous = begun;
    let closed = acknowledged.iter().map(|at| (*at, Some(*at)));
    for (at, closes) in closed.chain([(end, None)]) {
        // The last one may have come after the end: the drill waits for what is under way.
        let length = at.saturating_sub(previous);
        if at > injected && length > longest.0 {
            longest = (length, closes);
        }
        previous = at;
    }
    longest
}

fn latency(history: &History, stream: Stream, from: Micros, to: Micros) -> PhaseLatency {
    let due = |attempt: &&Attempt| {
        attempt.due >= from && attempt.due < to && attempt.outcome != super::history::Outcome::Unsent
    };
    let attempts: Vec<&Attempt> = history.of(stream).filter(due).collect();
    let mut latencies: Vec<Micros> = attempts.iter().filter(|a| a.acknowledged()).filter_map(|a| a.latency()).collect();
    latencies.sort_unstable();
    PhaseLatency {
        lasted_ms: millis(to.saturating_sub(from)),
        due: attempts.len() as u64,
        acknowledged: latencies.len() as u64,
        failed: (attempts.len() - latencies.len()) as u64,
        p50_ms: millis(percentile(&latencies, 50)),
        p99_ms: millis(percentile(&latencies, 99)),
        max_ms: millis(latencies.last().copied().unwrap_or(0)),
    }
}

/// The nearest-rank percentile of sorted values; 0 when there are none.
pub fn percentile(sorted: &[Micros], percent: usize) -> Micros {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        database::Lsn,
        drills::model::history::{Outcome, Place},
    };

    const SECOND: Micros = 1_000_000;

    fn event(at: Micros, kind: EventKind) -> DrillEvent {
        DrillEvent { at, kind, text: String::new() }
    }

    /// Ten writes a second for 30 s, answered in 5 ms but for those in the outage.
    fn outage(from: Micros, to: Micros, answered: impl Fn(Micros) -> (Outcome, Micros)) -> History {
        let ok = Outcome::Acknowledged { place: None };
        let attempts = (0..300).map(|key| {
            let due = key * SECOND / 10;
            let (outcome, done) = if due >= from && due < to { answered(due) } else { (ok.clone(), due + 5_000) };
            (key, Attempt { key, stream: Stream::Http, due, sent: Some(due), done: Some(done), outcome })
        });
        History { attempts: attempts.collect() }
    }

    fn events() -> Vec<DrillEvent> {
        vec![
            event(0, EventKind::Started),
            event(10 * SECOND, EventKind::Injected),
            event(10 * SECOND + 200_000, EventKind::PrimaryUnhealthy),
            event(12 * SECOND, EventKind::RedundancyRestored),
            event(20 * SECOND, EventKind::RedundancyRestored),
        ]
    }

    #[test]
    fn an_outage_with_errors() {
        let refused = |due| (Outcome::Refused { why: "down".into() }, due + 1_000);
        let times = measure(&outage(10 * SECOND, 13 * SECOND, refused), &events(), 30 * SECOND);
        let http = times.of(Stream::Http).unwrap();
        assert_eq!(http.recovery_ms, Some(3_005.0));
        assert_eq!(http.longest_gap_ms, 3_100.0, "from the last before, at 9.905 s, to the first after, at 13.005 s");
        assert_eq!(times.redundancy_ms, Some(10_000.0), "the last time that redundancy was restored counts");
        assert_eq!((http.phases[0].failed, http.phases[1].failed, http.phases[2].failed), (0, 30, 0));
        assert_eq!(times.step(EventKind::PrimaryUnhealthy), Some(200.0));
        assert!(times.of(Stream::Sql).is_none());
    }

    #[test]
    fn waiting_requests_count_from_when_they_were_due() {
        // All are held and answered at once when the outage ends: no error, and latencies of up to 3 s.
        let held = |_| (Outcome::Acknowledged { place: None }, 13 * SECOND);
        let times = measure(&outage(10 * SECOND, 13 * SECOND, held), &events(), 30 * SECOND);
        let http = times.of(Stream::Http).unwrap();
        assert_eq!(http.phases[1].failed, 0);
        assert_eq!(http.phases[1].max_ms, 3_000.0);
        assert_eq!(http.recovery_ms, Some(3_000.0));
    }

    #[test]
    fn an_outage_without_an_end_is_as_long_as_the_run() {
        let refused = |due| (Outcome::Refused { why: "down".into() }, due + 1_000);
        let times = measure(&outage(10 * SECOND, 31 * SECOND, refused), &events(), 30 * SECOND);
        let http = times.of(Stream::Http).unwrap();
        assert_eq!(http.recovery_ms, None);
        assert_eq!(http.longest_gap_ms, 20_095.0);
    }

    #[test]
    fn acknowledgements_that_stop_for_good_are_seen_also_after_a_longer_outage() {
        // Away from 10 to 18 s, back for a spell, and away again from 25 s on: the longest gap has an end.
        let mut history = outage(10 * SECOND, 18 * SECOND, |due| (Outcome::Refused { why: "down".into() }, due));
        for attempt in history.attempts.values_mut().filter(|attempt| attempt.due >= 25 * SECOND) {
            attempt.outcome = Outcome::Refused { why: "down".into() };
        }
        let times = measure(&history, &events(), 30 * SECOND);
        let http = times.of(Stream::Http).unwrap();
        assert!(http.recovery_ms.is_some());
        assert_eq!(http.unanswered_end_ms, Some(5_000.0));
        let clean = measure(&outage(0, 0, |_| unreachable!()), &events(), 30 * SECOND);
        assert_eq!(clean.of(Stream::Http).unwrap().unanswered_end_ms, Some(0.0));
    }

    #[test]
    fn a_loss_with_a_later_write_still_there_is_a_hole() {
        let history = outage(0, 0, |_| unreachable!());
        let lost = |keys: &[u64]| Verdict {
            anomalies: keys
                .iter()
                .map(|key| super::super::verdict::Anomaly {
                    kind: AnomalyKind::Lost,
                    key: Some(*key),
                    detail: String::new(),
                })
                .collect(),
            ..super::super::verdict::judge(&History::default(), &super::super::verdict::FinalState::default())
        };
        // The fault comes at 20 s; key 200 is due then.
        let suffix: Vec<u64> = (190..200).collect();
        assert_eq!(holes(&history, &lost(&suffix), 20_000.0), None, "the end is missing, and nothing else");
        assert_eq!(holes(&history, &lost(&[150]), 20_000.0), Some(1));
        assert_eq!(holes(&history, &lost(&[150, 199]), 20_000.0), Some(1));
        assert_eq!(holes(&history, &lost(&[]), 20_000.0), None);
    }

    #[test]
    fn the_timelines_of_acknowledgements_tell_a_promotion() {
        let mut history = outage(0, 0, |_| unreachable!());
        assert_eq!(timelines(&history, 10 * SECOND), None, "requests do not tell");
        for attempt in history.attempts.values_mut() {
            let timeline = if attempt.due < 12 * SECOND { 1 } else { 2 };
            let place = Place { timeline, lsn: Lsn(attempt.key), server: "a".into() };
            attempt.outcome = Outcome::Acknowledged { place: Some(place) };
        }
        assert_eq!(timelines(&history, 10 * SECOND), Some([1, 2]));
        assert_eq!(timelines(&history, 13 * SECOND), Some([2, 2]));
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let values: Vec<Micros> = (1..=100).collect();
        assert_eq!((percentile(&values, 50), percentile(&values, 99), percentile(&values, 100)), (50, 99, 100));
        assert_eq!((percentile(&[7], 50), percentile(&[], 99)), (7, 0));
    }
}
