//! The checker against synthetic histories: none of the clean ones fails, every planted fault is found.

use proptest::prelude::*;

use super::{
    history::{Attempt, History, Micros, Outcome, Place, Stream},
    verdict::{AnomalyKind, FinalState, InstanceRows, Verdict, judge},
};
use crate::database::{Fork, Lsn};

/// One write as it may go in a correct cluster.
#[derive(Debug, Clone)]
pub(super) struct PlannedWrite {
    pub stream: Stream,
    /// 0 to 5: acknowledged; 6: refused; 7: answer lost, stored; 8: answer lost, absent; 9: never sent.
    pub fate: u8,
    pub lateness: Micros,
    pub latency: Micros,
    pub pause: Micros,
}

pub(super) fn step() -> impl Strategy<Value = PlannedWrite> {
    let stream = prop_oneof![Just(Stream::Sql), Just(Stream::Http)];
    (stream, 0..10_u8, 0..500_u64, 1..40_000_u64, 1_000..20_000_u64)
        .prop_map(|(stream, fate, lateness, latency, pause)| PlannedWrite { stream, fate, lateness, latency, pause })
}

/// A correct run: a sequence of writes, and promotions in between, after which the old timeline takes no more.
#[derive(Debug, Clone)]
pub(super) struct Clean {
    pub history: History,
    pub state: FinalState,
}

fn clean() -> impl Strategy<Value = Clean> {
    (prop::collection::vec(step(), 20..200), prop::collection::btree_set(0..200_usize, 0..3), 1..5_u32)
        .prop_map(|(steps, promotions, timeline)| build(&steps, &promotions, timeline))
}

pub(super) fn build(
    steps: &[PlannedWrite],
    promotions: &std::collections::BTreeSet<usize>,
    mut timeline: u32,
) -> Clean {
    let mut history = History::default();
    let mut rows = std::collections::BTreeMap::new();
    let mut forks = Vec::new();
    let (mut clock, mut lsn) = (0, 0x300_0000_u64);
    // Every answer of the old timeline may be late, but no write is sent to it after the promotion.
    for (position, step) in steps.iter().enumerate() {
        if promotions.contains(&position) {
            forks.push(Fork { parent: timeline, at: Lsn(lsn + 64) });
            (timeline, lsn, clock) = (timeline + 1, lsn + 128, clock + 2_000_000);
        }
        // The first two are acknowledged, so that there is evidence for both streams.
        let (stream, fate) = match position {
            0 => (Stream::Sql, 0),
            1 => (Stream::Http, 0),
            _ => (step.stream, step.fate),
        };
        let key = position as u64;
        clock += step.pause;
        let sent = clock + step.lateness;
        let stored = matches!(fate, 0..=5 | 7);
        if stored {
            rows.insert(key, 1);
            lsn += 100;
        }
        let place = Place { timeline, lsn: Lsn(lsn), server: format!("10.0.0.{timeline}") };
        let outcome = match fate {
            0..=5 => Outcome::Acknowledged { place: (stream == Stream::Sql).then_some(place) },
            6 => Outcome::Refused { why: "cannot connect".into() },
            7 | 8 => Outcome::Unknown { why: "connection lost".into() },
            _ => Outcome::Unsent,
        };
        let done = (outcome != Outcome::Unsent).then_some(sent + step.latency);
        let sent = (outcome != Outcome::Unsent).then_some(sent);
        history.attempts.insert(key, Attempt { key, stream, due: clock, sent, done, outcome });
    }
    let instances = (1..=3).map(|n| InstanceRows { name: format!("user-db-{n}"), rows: rows.clone() }).collect();
    Clean { history, state: FinalState { instances, forks } }
}

fn only(verdict: &Verdict, wrong: AnomalyKind, key: u64) -> Result<(), TestCaseError> {
    prop_assert!(!verdict.pass);
    prop_assert!(verdict.anomalies.iter().any(|f| f.kind == wrong && f.key == Some(key)), "{:?}", verdict.anomalies);
    prop_assert!(verdict.anomalies.iter().all(|f| f.key == Some(key)), "false alarm: {:?}", verdict.anomalies);
    Ok(())
}

fn pick(clean: &Clean, choice: prop::sample::Index, fits: impl Fn(&Attempt) -> bool) -> Option<u64> {
    let keys: Vec<u64> = clean.history.attempts.values().filter(|a| fits(a)).map(|a| a.key).collect();
    (!keys.is_empty()).then(|| *choice.get(&keys))
}

proptest! {
    #[test]
    fn a_clean_history_passes(clean in clean()) {
        let verdict = judge(&clean.history, &clean.state);
        prop_assert!(verdict.pass, "{:?}", verdict.anomalies);
        let all = verdict.sql.attempted + verdict.http.attempted;
        let unsent = clean.history.attempts.values().filter(|a| a.outcome == Outcome::Unsent).count() as u64;
        prop_assert_eq!(all + unsent, clean.history.attempts.len() as u64);
        for counts in [verdict.sql, verdict.http] {
            prop_assert_eq!(counts.attempted, counts.acknowledged + counts.failed());
        }
    }

    #[test]
    fn a_lost_write_is_found(mut clean in clean(), choice: prop::sample::Index, on in 0..7_usize) {
        // Lost everywhere (the promotion dropped it), or on one instance only.
        let key = pick(&clean, choice, Attempt::acknowledged).unwrap();
        for (number, instance) in clean.state.instances.iter_mut().enumerate() {
            if on >= 3 || on == number {
                instance.rows.remove(&key);
            }
        }
        let verdict = judge(&clean.history, &clean.state);
        only(&verdict, AnomalyKind::Lost, key)?;
    }

    #[test]
    fn a_doubled_write_is_found(mut clean in clean(), choice: prop::sample::Index, on in 0..3_usize) {
        let stored: Vec<u64> = clean.state.instances[0].rows.keys().copied().collect();
        let key = *choice.get(&stored);
        clean.state.instances[on].rows.insert(key, 2);
        only(&judge(&clean.history, &clean.state), AnomalyKind::Doubled, key)?;
    }

    #[test]
    fn a_phantom_is_found(mut clean in clean(), choice: prop::sample::Index) {
        let refused = |a: &Attempt| matches!(a.outcome, Outcome::Refused { .. } | Outcome::Unsent);
        let Some(key) = pick(&clean, choice, refused) else { return Ok(()) };
        clean.state.instances.iter_mut().for_each(|instance| { instance.rows.insert(key, 1); });
        only(&judge(&clean.history, &clean.state), AnomalyKind::Phantom, key)?;
    }

    #[test]
    fn a_foreign_row_is_found(mut clean in clean(), beyond in 1_000..2_000_u64) {
        clean.state.instances.iter_mut().for_each(|instance| { instance.rows.insert(beyond, 1); });
        only(&judge(&clean.history, &clean.state), AnomalyKind::Foreign, beyond)?;
    }

    #[test]
    fn a_row_on_some_instances_only_is_found(mut clean in clean(), choice: prop::sample::Index, on in 0..3_usize) {
        let lost_answer = |a: &Attempt| matches!(a.outcome, Outcome::Unknown { .. });
        let Some(key) = pick(&clean, choice, lost_answer) else { return Ok(()) };
        for (number, instance) in clean.state.instances.iter_mut().enumerate() {
            if number == on { instance.rows.insert(key, 1); } else { instance.rows.remove(&key); }
        }
        only(&judge(&clean.history, &clean.state), AnomalyKind::Divergent, key)?;
    }

    #[test]
    fn a_split_brain_is_found(mut clean in clean(), choice: prop::sample::Index, delay in 1..1_000_000_u64) {
        // A write to an old timeline, sent after a newer one had acknowledged.
        let newest = clean.history.attempts.values().filter_map(|a| a.place().map(|p| p.timeline)).max().unwrap();
        let first = clean.history.attempts.values().filter(|a| a.place().is_some_and(|p| p.timeline == newest));
        let first = first.filter_map(|a| a.done).min().unwrap();
        let old = |a: &Attempt| a.place().is_some_and(|p| p.timeline < newest);
        let Some(key) = pick(&clean, choice, old) else { return Ok(()) };
        let attempt = clean.history.attempts.get_mut(&key).unwrap();
        (attempt.sent, attempt.done) = (Some(first + delay), Some(first + delay + 5));
        only(&judge(&clean.history, &clean.state), AnomalyKind::SplitBrain, key)?;
    }

    #[test]
    fn a_late_answer_is_no_split_brain(mut clean in clean(), choice: prop::sample::Index) {
        let newest = clean.history.attempts.values().filter_map(|a| a.place().map(|p| p.timeline)).max().unwrap();
        let old = |a: &Attempt| a.place().is_some_and(|p| p.timeline < newest);
        let Some(key) = pick(&clean, choice, old) else { return Ok(()) };
        let end = clean.history.attempts.values().filter_map(|a| a.done).max().unwrap();
        clean.history.attempts.get_mut(&key).unwrap().done = Some(end + 1);
        let verdict = judge(&clean.history, &clean.state);
        prop_assert!(verdict.pass, "{:?}", verdict.anomalies);
        prop_assert!(verdict.late_acknowledgements >= 1);
    }

    #[test]
    fn an_acknowledgement_beyond_the_fork_is_found(mut clean in clean(), choice: prop::sample::Index, by in 1..999_u64) {
        let forked: Vec<Fork> = clean.state.forks.clone();
        let old = |a: &Attempt| a.place().is_some_and(|p| forked.iter().any(|f| f.parent == p.timeline));
        let Some(key) = pick(&clean, choice, old) else { return Ok(()) };
        if let Outcome::Acknowledged { place: Some(place) } = &mut clean.history.attempts.get_mut(&key).unwrap().outcome {
            let fork = forked.iter().find(|fork| fork.parent == place.timeline).unwrap();
            place.lsn = Lsn(fork.at.0 + by);
        }
        only(&judge(&clean.history, &clean.state), AnomalyKind::BeyondFork, key)?;
    }
}

#[test]
fn a_run_that_saw_nothing_does_not_pass() {
    let verdict = judge(&History::default(), &FinalState::default());
    assert!(!verdict.pass);
    assert_eq!(verdict.count(AnomalyKind::NoEvidence), 2);
}

#[test]
fn a_stream_that_was_never_acknowledged_does_not_pass() {
    let step = PlannedWrite { stream: Stream::Http, fate: 0, lateness: 0, latency: 1, pause: 1 };
    let mut clean = build(&[step.clone(), step], &std::collections::BTreeSet::new(), 1);
    clean.history.attempts.get_mut(&1).unwrap().outcome = Outcome::Refused { why: "503".into() };
    clean.state.instances.iter_mut().for_each(|instance| {
        instance.rows.remove(&1);
    });
    assert_eq!(judge(&clean.history, &clean.state).count(AnomalyKind::NoEvidence), 1);
}
