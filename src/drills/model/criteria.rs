//! What must hold for a run to pass.

use std::time::Duration;

use super::{
    events::{DrillEvent, EventKind},
    expectation::{Expectation, Loss, PrimaryRole},
    report::Criterion,
    times::Times,
    verdict::{AnomalyKind, Verdict},
};

/// The longest pause of writes that users do not notice.
const UNNOTICED_PAUSE: Duration = Duration::from_secs(3);

/// Writes at the end of a run that may be without an acknowledgement, by the time when they were due: what is under way when
/// the drill ends.
const END_UNANSWERED: Duration = Duration::from_secs(3);
/// One in so many attempts may be without any outcome on record.
const UNRECORDED_ONE_IN: u64 = 100;

/// Every criterion that a run must meet, applied to what was found.
pub fn criteria(
    expect: &Expectation,
    verdict: &Verdict,
    times: &Times,
    events: &[DrillEvent],
    max_rto: Option<Duration>,
) -> Vec<Criterion> {
    let lost = verdict.writes(AnomalyKind::Lost);
    let acknowledged = verdict.sql.acknowledged + verdict.http.acknowledged;
    let mut all = vec![match expect.loss {
        // The stack is made to lose; what is tried is the checker, and nothing else counts.
        Loss::MustBeFound => {
            let detail = format!("{lost} of {acknowledged} acknowledged writes are lost");
            return vec![criterion("the checker finds the loss", lost > 0, detail)];
        }
        Loss::None => {
            criterion("nothing acknowledged is lost", lost == 0, format!("{acknowledged} acknowledged, {lost} lost"))
        }
        Loss::AtMost(limit) => bounded_loss(times, limit, lost, acknowledged),
    }];
    let others = [AnomalyKind::Phantom, AnomalyKind::Doubled, AnomalyKind::Foreign, AnomalyKind::Divergent];
    let counted = |wrong: &[AnomalyKind]| wrong.iter().map(|wrong| verdict.count(*wrong)).sum::<usize>();
    let detail = others.map(|wrong| format!("{} {}", verdict.count(wrong), wrong.title())).join(", ");
    all.push(criterion("nothing is stored that should not be", counted(&others) == 0, detail));
    let split = counted(&[AnomalyKind::SplitBrain, AnomalyKind::BeyondFork]);
    let late = verdict.late_acknowledgements;
    all.push(criterion("one primary at a time", split == 0, format!("{split} findings, {late} late answers")));
    all.push(criterion(
        "there is evidence",
        verdict.count(AnomalyKind::NoEvidence) == 0,
        format!("{} SQL and {} HTTP writes attempted", verdict.sql.attempted, verdict.http.attempted),
    ));
    let redundancy = times.redundancy_ms.map_or("it never was".to_owned(), |ms| format!("after {:.1} s", ms / 1000.0));
    all.push(criterion("full redundancy is back", times.redundancy_ms.is_some(), redundancy));
    let (attempted, unrecorded) =
        (verdict.sql.attempted + verdict.http.attempted, verdict.sql.unrecorded + verdict.http.unrecorded);
    all.push(criterion(
        "what became of the writes is on record",
        unrecorded * UNRECORDED_ONE_IN <= attempted,
        format!("{unrecorded} of {attempted} without an outcome"),
    ));
    all.extend(resumption(times, max_rto));
    all.extend(primary_role(expect.primary, events, times));
    if expect.uninterrupted {
        all.extend(uninterrupted(verdict, times));
    }
    if expect.promotion_refused {
        all.push(promotion_refused(times));
    }
    all
}

fn criterion(name: &str, ok: bool, detail: impl Into<String>) -> Criterion {
    Criterion { name: name.into(), ok, detail: detail.into() }
}

/// The criterion where a restore brings back what was archived: at most so much of the end may be missing.
fn bounded_loss(times: &Times, limit: Duration, lost: usize, acknowledged: u64) -> Criterion {
    let oldest = times.lost_ms.unwrap_or(0.0) / 1000.0;
    let detail = match lost {
        0 => format!("{acknowledged} acknowledged, none lost"),
        _ => {
            format!("{lost} of {acknowledged} acknowledged writes are lost, the oldest {oldest:.1} s before the fault")
        }
    };
    let name = format!("nothing acknowledged earlier than {} s before the fault is lost", limit.as_secs());
    let holes = times.holes.unwrap_or(0);
    let detail = if holes == 0 { detail } else { format!("{detail}; {holes} of them before writes that are there") };
    criterion(&name, oldest <= limit.as_secs_f64() && holes == 0, detail)
}

fn resumption(times: &Times, max_rto: Option<Duration>) -> impl Iterator<Item = Criterion> {
    times.interruptions.iter().map(move |interruption| {
        let (stream, recovery) = (interruption.stream, interruption.recovery_ms);
        let stopped = interruption.unanswered_end_ms.filter(|ms| *ms > END_UNANSWERED.as_secs_f64() * 1000.0);
        let detail = match (recovery, stopped) {
            (None, _) => "never".to_owned(),
            (Some(_), Some(ms)) => format!("and stop again: none of the last {:.1} s is acknowledged", ms / 1000.0),
            (Some(ms), None) => format!("{:.2} s after the fault", ms / 1000.0),
        };
        let limit = max_rto.map_or(f64::INFINITY, |limit| limit.as_secs_f64() * 1000.0);
        let name = match max_rto {
            Some(limit) => format!("{stream} writes resume within {limit:?}"),
            None => format!("{stream} writes resume"),
        };
        criterion(&name, stopped.is_none() && recovery.is_some_and(|ms| ms <= limit), detail)
    })
}

/// The criterion about the primary's role, by the operator's word and by the timelines that acknowledged writes.
fn primary_role(role: PrimaryRole, events: &[DrillEvent], times: &Times) -> Option<Criterion> {
    let said = events.iter().any(|event| event.kind == EventKind::CurrentPrimary);
    let shown = times.timelines.map_or(said, |[before, after]| after > before);
    let (moved, detail) = match (said, shown) {
        (true, true) => (Some(true), "it moved"),
        (false, false) => (Some(false), "it stayed"),
        (true, false) => (None, "the operator says that it moved, and no write was acknowledged on a newer timeline"),
        (false, true) => (None, "the operator says that it stayed, and writes were acknowledged on a newer timeline"),
    };
    match role {
        PrimaryRole::Moves => Some(criterion("a standby becomes the primary", moved == Some(true), detail)),
        PrimaryRole::Stays => Some(criterion("the primary stays", moved == Some(false), detail)),
        PrimaryRole::MovesOrStays => None,
    }
}

fn uninterrupted(verdict: &Verdict, times: &Times) -> Vec<Criterion> {
    let limit = UNNOTICED_PAUSE.as_secs_f64() * 1000.0;
    let longest = times.interruptions.iter().map(|interruption| interruption.longest_gap_ms).fold(0.0, f64::max);
    let failed = verdict.http.failed();
    vec![
        criterion("writes go on", longest <= limit, format!("the longest pause was {:.2} s", longest / 1000.0)),
        criterion("no web request fails", failed == 0, format!("{failed} failed")),
    ]
}

/// The criterion that a refusal was seen, and no promotion before it.
fn promotion_refused(times: &Times) -> Criterion {
    let (refused, chosen) = (times.step(EventKind::PromotionRefused), times.step(EventKind::TargetChosen));
    let detail = match (refused, chosen) {
        (None, _) => "no refusal was seen".to_owned(),
        (Some(refused), None) => format!("refused after {:.1} s, no promotion", refused / 1000.0),
        (Some(refused), Some(chosen)) => {
            format!("refused after {:.1} s, a standby chosen after {:.1} s", refused / 1000.0, chosen / 1000.0)
        }
    };
    let ok = refused.is_some_and(|refused| chosen.is_none_or(|chosen| refused <= chosen));
    criterion("the quorum refuses to promote while it can't be sure", ok, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drills::model::{
        history::{History, Stream},
        times::{Interruption, PhaseLatency, RecoveryStep},
        verdict::{FinalState, judge},
    };

    fn times(steps: &[(EventKind, f64)], gap: f64) -> Times {
        let step = |(kind, after_ms): &(EventKind, f64)| RecoveryStep {
            kind: *kind,
            after_ms: *after_ms,
            text: String::new(),
        };
        let interruption = Interruption {
            stream: Stream::Sql,
            longest_gap_ms: gap,
            recovery_ms: Some(gap),
            phases: [PhaseLatency::default(); 3],
            unanswered_end_ms: None,
        };
        Times {
            steps: steps.iter().map(step).collect(),
            interruptions: vec![interruption],
            redundancy_ms: Some(9_000.0),
            ..Times::default()
        }
    }

    fn holds(expect: Expectation, times: &Times, name: &str) -> bool {
        let verdict = judge(&History::default(), &FinalState::default());
        let all = criteria(&expect, &verdict, times, &[], None);
        all.iter().find(|criterion| criterion.name == name).unwrap().ok
    }

    #[test]
    fn a_promotion_before_the_refusal_is_a_failure() {
        let name = "the quorum refuses to promote while it can't be sure";
        let (refused, chosen) = (EventKind::PromotionRefused, EventKind::TargetChosen);
        let expect = Expectation { promotion_refused: true, ..Expectation::DEFAULT };
        for (steps, ok) in [
            (&[(refused, 300.0)][..], true),
            (&[(refused, 300.0), (chosen, 8_000.0)], true),
            (&[(chosen, 200.0), (refused, 300.0)], false),
            (&[(chosen, 200.0)], false),
            (&[], false),
        ] {
            assert_eq!(holds(expect, &times(steps, 9_000.0), name), ok, "{steps:?}");
        }
    }

    #[test]
    fn a_pause_is_noticed_where_there_must_be_none() {
        let expect = Expectation { uninterrupted: true, ..Expectation::DEFAULT };
        for (gap, ok) in [(0.0, true), (2_999.0, true), (3_001.0, false)] {
            assert_eq!(holds(expect, &times(&[], gap), "writes go on"), ok, "{gap}");
        }
    }

    #[test]
    fn what_a_disaster_may_take_is_bounded() {
        let expect = Expectation { loss: Loss::AtMost(Duration::from_secs(65)), ..Expectation::DEFAULT };
        let verdict = judge(&History::default(), &FinalState::default());
        for (lost_ms, ok) in [(None, true), (Some(64_900.0), true), (Some(65_100.0), false)] {
            let times = Times { lost_ms, ..times(&[], 9_000.0) };
            let all = criteria(&expect, &verdict, &times, &[], None);
            assert_eq!(all[0].ok, ok, "{lost_ms:?}: {}", all[0].name);
            assert!(all[0].name.contains("65 s"), "{}", all[0].name);
        }
    }

    #[test]
    fn writes_that_stop_again_have_not_resumed() {
        let mut times = times(&[], 2_000.0);
        for (end, ok) in [(0.0, true), (2_900.0, true), (5_000.0, false)] {
            times.interruptions[0].unanswered_end_ms = Some(end);
            assert_eq!(holds(Expectation::DEFAULT, &times, "SQL writes resume"), ok, "{end}");
        }
    }

    #[test]
    fn a_restore_with_a_hole_is_no_prefix() {
        let expect = || Expectation { loss: Loss::AtMost(Duration::from_secs(65)), ..Expectation::DEFAULT };
        let name = "nothing acknowledged earlier than 65 s before the fault is lost";
        let with = |holes| Times { lost_ms: Some(1_000.0), holes, ..times(&[], 0.0) };
        assert!(holds(expect(), &with(None), name) && !holds(expect(), &with(Some(1)), name));
    }

    #[test]
    fn the_primarys_role_is_told_by_timelines_too() {
        let moved = [DrillEvent { at: 1, kind: EventKind::CurrentPrimary, text: "db-2".into() }];
        let role = |role, events: &[DrillEvent], timelines| {
            primary_role(role, events, &Times { timelines, ..Times::default() }).unwrap().ok
        };
        let (moves, stays) = (PrimaryRole::Moves, PrimaryRole::Stays);
        assert!(role(moves, &moved, Some([1, 2])) && role(moves, &moved, None));
        assert!(!role(moves, &moved, Some([1, 1])), "nobody has acknowledged as the new primary");
        assert!(role(stays, &[], Some([1, 1])) && !role(stays, &[], Some([1, 2])));
    }

    #[test]
    fn writes_without_an_outcome_on_record_are_bounded() {
        let name = "what became of the writes is on record";
        let counted = |unrecorded| {
            let mut verdict = judge(&History::default(), &FinalState::default());
            (verdict.sql.attempted, verdict.sql.unrecorded) = (1_000, unrecorded);
            let all = criteria(&Expectation::DEFAULT, &verdict, &times(&[], 0.0), &[], None);
            all.into_iter().find(|criterion| criterion.name == name).unwrap().ok
        };
        assert!(counted(0) && counted(10) && !counted(11));
    }

    #[test]
    fn the_control_passes_only_if_a_loss_is_found() {
        let expect = Expectation { loss: Loss::MustBeFound, ..Expectation::DEFAULT };
        let verdict = judge(&History::default(), &FinalState::default());
        let all = criteria(&expect, &verdict, &times(&[], 0.0), &[], None);
        assert_eq!(all.len(), 1);
        assert!(!all[0].ok);
    }
}
