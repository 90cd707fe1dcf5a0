//! From what the cluster does to what the user reads: events of applying, waiting and deleting as events of a phase.

use crate::{
    kube::{Change, DeleteEvent, ObjectRef, Problem, Readiness, WaitEvent},
    ui::{Event, PhaseId, Reporter, State},
};

/// An observer of a wait, which sends what it sees as events of `phase`.
pub fn observer(reporter: &Reporter, phase: PhaseId) -> impl Fn(WaitEvent) + Send + Sync + use<> {
    let reporter = reporter.clone();
    move |event| {
        reporter.send(match event {
            WaitEvent::State { object, readiness } => {
                let (state, detail) = match &readiness {
                    Readiness::Ready(detail) => (State::Ready, detail.clone()),
                    Readiness::Progressing(detail) => (State::Waiting, detail.clone()),
                    Readiness::Failed { reason, message } => (State::Failed, format!("{reason}: {message}")),
                };
                resource(phase, &object, state, &detail)
            }
            WaitEvent::Problem(found) => problem(phase, found),
        });
    }
}

fn resource(phase: PhaseId, object: &ObjectRef, state: State, detail: &str) -> Event {
    Event::Resource { phase, resource: object.to_string(), state, detail: detail.into() }
}

/// The event of `phase` for what a deletion tells.
pub fn deletion(phase: PhaseId, event: DeleteEvent) -> Event {
    match event {
        DeleteEvent::Deleting(object) => resource(phase, &object, State::Waiting, "being deleted"),
        DeleteEvent::Deleted(object) => resource(phase, &object, State::Deleted, ""),
        DeleteEvent::Kept(object, why) => resource(phase, &object, State::Unchanged, &format!("kept: {why}")),
        DeleteEvent::Problem(found) => problem(phase, found),
    }
}

/// The event of `phase` for a problem, with everything that is known of it.
pub fn problem(phase: PhaseId, problem: Problem) -> Event {
    Event::Problem {
        phase,
        resource: problem.object.to_string(),
        reason: problem.reason,
        message: problem.message,
        last_event: problem.last_event,
        last_log: problem.last_log,
        remedy: problem.remedy,
        fatal: problem.fatal,
    }
}

/// The event of `phase` for what applying an object did.
pub fn change(phase: PhaseId, object: &ObjectRef, change: Change) -> Event {
    let state = match change {
        Change::Created => State::Created,
        Change::Configured => State::Configured,
        Change::Unchanged => State::Unchanged,
    };
    resource(phase, object, state, "")
}
