//! What happens, as data: phases send these and never print.

use std::time::Duration;

use serde::Serialize;

use super::PhaseId;
use crate::error::one_line;

/// How far a resource is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It was created.
    Created,
    /// It existed and was changed.
    Configured,
    /// It was as it should be.
    Unchanged,
    /// It was removed.
    Deleted,
    /// It is not ready yet.
    Waiting,
    /// It is ready.
    Ready,
    /// It cannot become ready by itself.
    Failed,
}

impl State {
    /// The word on the terminal.
    pub const fn word(self) -> &'static str {
        match self {
            State::Created => "created",
            State::Configured => "configured",
            State::Unchanged => "unchanged",
            State::Deleted => "deleted",
            State::Waiting => "waiting",
            State::Ready => "ready",
            State::Failed => "failed",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A command with phases begins; the phases are listed in their order.
    Started {
        /// `up`, `down`, …
        command: String,
        /// What it works on, e.g. `minikube profile stackctl`.
        target: String,
        /// What it takes from the last `up` of the stack, as flags: `--instances 5`.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        #[cfg_attr(test, serde(default))]
        remembered: Vec<String>,
        /// How long it took the last time.
        #[serde(rename = "last_seconds", skip_serializing_if = "Option::is_none", serialize_with = "as_known_seconds")]
        #[cfg_attr(test, serde(default, deserialize_with = "tests::known_seconds"))]
        last_time: Option<Duration>,
    },
    /// A phase begins.
    PhaseStarted {
        /// The phase's id.
        phase: PhaseId,
        /// Its title.
        title: String,
    },
    /// A phase had nothing to do at all.
    PhaseSkipped {
        /// The phase's id.
        phase: PhaseId,
        /// Its title.
        title: String,
        /// Why.
        reason: String,
    },
    /// A phase ended well.
    PhaseDone {
        /// The phase's id.
        phase: PhaseId,
        /// Its title.
        title: String,
        /// One line on the outcome, e.g. `3/3 instances, primary user-db-1`.
        outcome: String,
        /// How long it took.
        #[serde(rename = "seconds", serialize_with = "as_seconds")]
        #[cfg_attr(test, serde(deserialize_with = "tests::seconds"))]
        elapsed: Duration,
    },
    /// A phase failed; the command's error follows at the end.
    PhaseFailed {
        /// The phase's id.
        phase: PhaseId,
        /// Its title.
        title: String,
        /// The error in one line.
        error: String,
        /// How long it took.
        #[serde(rename = "seconds", serialize_with = "as_seconds")]
        #[cfg_attr(test, serde(deserialize_with = "tests::seconds"))]
        elapsed: Duration,
    },
    /// What a phase is doing at the moment.
    Doing {
        /// The phase's id.
        phase: PhaseId,
        /// A short present participle, e.g. `loading user-app:3f…`.
        text: String,
    },
    /// What a phase measures, about once a second.
    Measured {
        /// The phase's id.
        phase: PhaseId,
        /// For people.
        text: String,
        /// For programs: an object with a number each.
        values: serde_json::Value,
    },
    /// A resource's state, sent when it changes.
    Resource {
        /// The phase's id.
        phase: PhaseId,
        /// E.g. `Deployment user-app/user-app`.
        resource: String,
        /// How far it is.
        state: State,
        /// E.g. `1/2 pods ready`.
        #[serde(skip_serializing_if = "String::is_empty")]
        #[cfg_attr(test, serde(default))]
        detail: String,
    },
    /// Something is in the way; may pass by itself unless `fatal`.
    Problem {
        /// The phase's id.
        phase: PhaseId,
        /// E.g. `Pod user-app/user-app-7c9…`.
        resource: String,
        /// E.g. `ImagePullBackOff`.
        reason: String,
        /// The cluster's own words.
        message: String,
        /// The last Warning event of the resource, `Reason: message`.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, serde(default))]
        last_event: Option<String>,
        /// The last lines of the container's log.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        #[cfg_attr(test, serde(default))]
        last_log: Vec<String>,
        /// What to do.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, serde(default))]
        remedy: Option<String>,
        /// It cannot recover by itself.
        fatal: bool,
    },
    /// Something that the user should know and that stops nothing.
    Warning {
        /// The phase's id.
        phase: PhaseId,
        /// One sentence.
        text: String,
    },
    /// A line from a tool, shown with `-v`.
    Output {
        /// The phase's id.
        phase: PhaseId,
        /// The line.
        line: String,
    },
    /// The plan of a dry run, or of what a confirmed action will do.
    Plan {
        /// The phase's id.
        phase: PhaseId,
        /// Its title.
        title: String,
        /// One line a step.
        steps: Vec<String>,
    },
    /// The command's end.
    Finished {
        /// `up`, `down`, …
        command: String,
        /// Whether it succeeded.
        ok: bool,
        /// How long it took.
        #[serde(rename = "seconds", serialize_with = "as_seconds")]
        #[cfg_attr(test, serde(deserialize_with = "tests::seconds"))]
        elapsed: Duration,
        /// HTTP requests sent to the cluster.
        requests: u64,
        /// What is there now: label and value.
        facts: Vec<(String, String)>,
        /// Next commands to try, with what they do.
        next: Vec<(String, String)>,
    },
}

impl Event {
    /// A command's beginning.
    pub fn started(command: &str, target: String) -> Event {
        Event::Started { command: command.into(), target, remembered: Vec::new(), last_time: None }
    }

    /// A phase's end: done with an outcome in words, or failed.
    pub fn phase_ended(
        phase: PhaseId,
        title: &str,
        outcome: std::result::Result<String, &anyhow::Error>,
        elapsed: Duration,
    ) -> Event {
        let title = title.to_owned();
        match outcome {
            Ok(outcome) => Event::PhaseDone { phase, title, outcome, elapsed },
            Err(error) => Event::PhaseFailed { phase, title, error: one_line(error), elapsed },
        }
    }
}

fn as_seconds<S: serde::Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    // Milliseconds are enough and keep the lines short.
    serializer.serialize_f64((elapsed.as_secs_f64() * 1000.0).round() / 1000.0)
}

fn as_known_seconds<S: serde::Serializer>(elapsed: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match elapsed {
        Some(elapsed) => as_seconds(elapsed, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn known_seconds<'de, D: serde::Deserializer<'de>>(number: D) -> Result<Option<Duration>, D::Error> {
        seconds(number).map(Some)
    }

    pub(super) fn seconds<'de, D: serde::Deserializer<'de>>(number: D) -> Result<Duration, D::Error> {
        serde::Deserialize::deserialize(number).map(Duration::from_secs_f64)
    }

    #[test]
    fn events_are_the_json_that_8b80009_wrote() {
        for line in include_str!("../../tests/compat/8b80009/events.jsonl").lines() {
            let before: serde_json::Value = serde_json::from_str(line).unwrap();
            let event: Event = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(serde_json::to_value(&event).unwrap(), before);
        }
    }

    #[test]
    fn a_problem_in_json_has_the_clusters_own_words_and_beside_them_event_and_log() {
        let problem = Event::Problem {
            phase: PhaseId::Web,
            resource: "Pod a/b".into(),
            reason: "CrashLoopBackOff".into(),
            message: "back-off 10s restarting".into(),
            last_event: Some("BackOff: restarting".into()),
            last_log: vec!["panic: no route".into()],
            remedy: None,
            fatal: false,
        };
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(json["message"], "back-off 10s restarting");
        assert_eq!(json["last_event"], "BackOff: restarting");
        assert_eq!(json["last_log"], serde_json::json!(["panic: no route"]));
    }
}
