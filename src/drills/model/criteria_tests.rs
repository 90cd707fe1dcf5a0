//! The criteria against whole runs: a clean failover meets every one, and a planted fault fails the one that is about it.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use super::{
    criteria::criteria,
    events::{DrillEvent, EventKind},
    expectation::{Expectation, Loss, PrimaryRole},
    history::{Attempt, Micros, Outcome, Stream},
    report::Criterion,
    times::{self, Times},
    verdict::judge,
    verdict_tests::{Clean, PlannedWrite, build, step},
};

const SECOND: Micros = 1_000_000;
const EXPECT: Expectation = Expectation { primary: PrimaryRole::Moves, ..Expectation::DEFAULT };
const RESTORE: Expectation = Expectation { loss: Loss::AtMost(Duration::from_secs(65)), ..EXPECT };

/// A run with one failover: the writes and what was seen.
#[derive(Debug, Clone)]
struct FailoverRun {
    clean: Clean,
    events: Vec<DrillEvent>,
    injected: Micros,
}

impl FailoverRun {
    fn event(&mut self, at: Micros, kind: EventKind) {
        self.events.push(DrillEvent { at, kind, text: String::new() });
    }

    fn end(&self) -> Micros {
        self.clean.history.attempts.values().filter_map(|attempt| attempt.done.or(attempt.sent)).max().unwrap_or(0)
    }

    fn judged(&self, expect: &Expectation) -> Vec<Criterion> {
        let verdict = judge(&self.clean.history, &self.clean.state);
        let measured = times::measure(&self.clean.history, &self.events, self.end());
        let injected = measured.injected_ms;
        let times = Times {
            lost_ms: times::lost(&self.clean.history, &verdict, injected),
            holes: times::holes(&self.clean.history, &verdict, injected),
            ..measured
        };
        criteria(expect, &verdict, &times, &self.events, None)
    }

    /// The names of the criteria that the run does not meet.
    fn failed(&self, expect: &Expectation) -> Vec<String> {
        self.judged(expect).into_iter().filter(|criterion| !criterion.ok).map(|criterion| criterion.name).collect()
    }

    fn acknowledged(&self, fits: impl Fn(&Attempt) -> bool) -> Vec<u64> {
        let fitting = self.clean.history.attempts.values().filter(|attempt| attempt.acknowledged() && fits(attempt));
        fitting.map(|attempt| attempt.key).collect()
    }

    fn lose(&mut self, key: u64) {
        self.clean.state.instances.iter_mut().for_each(|instance| {
            instance.rows.remove(&key);
        });
    }
}

/// Failovers of which both streams see the beginning and the end.
fn failover() -> impl Strategy<Value = FailoverRun> {
    (prop::collection::vec(step(), 60..200), 20..40_usize).prop_map(|(mut steps, promotion)| {
        let count = steps.len();
        for (position, stream) in [
            (promotion - 2, Stream::Sql),
            (promotion - 1, Stream::Http),
            (promotion, Stream::Sql),
            (promotion + 1, Stream::Http),
            (count - 2, Stream::Sql),
            (count - 1, Stream::Http),
        ] {
            steps[position] = PlannedWrite { stream, fate: 0, ..steps[position].clone() };
        }
        let clean = build(&steps, &BTreeSet::from([promotion]), 1);
        let due = clean.history.attempts[&(promotion as u64)].due;
        let mut run = FailoverRun { clean, events: Vec::new(), injected: due - SECOND };
        run.event(0, EventKind::Started);
        run.event(due - SECOND, EventKind::Injected);
        run.event(due - SECOND / 2, EventKind::CurrentPrimary);
        run.event(run.end(), EventKind::RedundancyRestored);
        run
    })
}

/// Writes that are due after the last one, none of them acknowledged.
fn stop_for_good(run: &mut FailoverRun, seconds: u64) {
    let (first, begin) = (run.clean.history.attempts.len() as u64, run.end());
    for number in 0..seconds * 20 {
        let due = begin + (number + 1) * SECOND / 20;
        let stream = if number % 2 == 0 { Stream::Sql } else { Stream::Http };
        let outcome = Outcome::Refused { why: "cannot connect".into() };
        let attempt = Attempt { key: first + number, stream, due, sent: Some(due), done: Some(due + 1), outcome };
        run.clean.history.attempts.insert(attempt.key, attempt);
    }
}

proptest! {
    #[test]
    fn a_clean_failover_meets_every_criterion(run in failover()) {
        prop_assert_eq!(run.failed(&EXPECT), Vec::<String>::new());
        prop_assert_eq!(run.failed(&RESTORE), Vec::<String>::new());
    }

    #[test]
    fn redundancy_that_went_again_has_not_come(mut run in failover(), later in 1..SECOND) {
        let end = run.end();
        run.event(end + later, EventKind::RedundancyLost);
        prop_assert_eq!(run.failed(&EXPECT), ["full redundancy is back"]);
        run.event(end + later + 1, EventKind::RedundancyRestored);
        prop_assert_eq!(run.failed(&EXPECT), Vec::<String>::new(), "it came back and stayed");
    }

    #[test]
    fn writes_that_stop_for_good_have_not_resumed(mut run in failover(), seconds in 4..30_u64) {
        stop_for_good(&mut run, seconds);
        prop_assert_eq!(run.failed(&EXPECT), ["SQL writes resume", "HTTP writes resume"]);
    }

    #[test]
    fn a_restore_that_lacks_the_end_is_a_prefix_and_one_with_a_hole_is_none(
        run in failover(), choice: prop::sample::Index,
    ) {
        let injected = run.injected;
        let before = run.acknowledged(|attempt| attempt.done.is_some_and(|done| done <= injected));
        let newest = run.clean.history.attempts[before.last().unwrap()].clone();
        let name = "nothing acknowledged earlier than 65 s before the fault is lost";
        // All that was under way from some moment on.
        let cut = run.clean.history.attempts[choice.get(&before)].sent.unwrap();
        let mut prefix = run.clone();
        for attempt in run.clean.history.attempts.values() {
            if attempt.sent.is_some_and(|sent| sent >= cut && sent <= injected) {
                prefix.lose(attempt.key);
            }
        }
        prop_assert_eq!(prefix.failed(&RESTORE), Vec::<String>::new());
        // One that was acknowledged before the newest was sent, which is there.
        let earlier: Vec<u64> = before
            .iter()
            .copied()
            .filter(|key| run.clean.history.attempts[key].done < newest.sent)
            .collect();
        let mut hole = run;
        hole.lose(*choice.get(&earlier));
        prop_assert_eq!(hole.failed(&RESTORE), [name]);
    }

    #[test]
    fn a_conversation_that_broke_is_told(mut run in failover(), from in 3..10_usize) {
        let keys: Vec<u64> = run.clean.history.attempts.keys().copied().skip(from).take(10).collect();
        for key in keys {
            let attempt = run.clean.history.attempts.get_mut(&key).unwrap();
            (attempt.outcome, attempt.done) = (Outcome::Unknown { why: "the conversation broke".into() }, None);
            attempt.sent.get_or_insert(attempt.due);
        }
        prop_assert_eq!(run.failed(&EXPECT), ["what became of the writes is on record"]);
    }

    #[test]
    fn an_instance_that_cannot_be_read_hides_no_loss_on_the_others(
        mut run in failover(), choice: prop::sample::Index, unread in 0..3_usize,
    ) {
        run.clean.state.instances.remove(unread);
        prop_assert_eq!(run.failed(&EXPECT), Vec::<String>::new(), "that it was not read is a finding of its own");
        let key = *choice.get(&run.acknowledged(|_| true));
        run.clean.state.instances[choice.index(2)].rows.remove(&key);
        prop_assert!(run.failed(&EXPECT).contains(&"nothing acknowledged is lost".to_owned()));
    }

    #[test]
    fn a_new_primary_that_only_the_operator_speaks_of_is_none(mut run in failover()) {
        for attempt in run.clean.history.attempts.values_mut() {
            if let Outcome::Acknowledged { place: Some(place) } = &mut attempt.outcome {
                place.timeline = 1;
            }
        }
        run.clean.state.forks.clear();
        prop_assert_eq!(run.failed(&EXPECT), ["a standby becomes the primary"]);
    }
}
