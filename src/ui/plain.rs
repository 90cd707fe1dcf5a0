//! A line an event on stderr: no colour, no redraw. For logs and CI.

use std::time::{Duration, Instant};

use dialoguer::console::strip_ansi_codes;

use super::{
    Event, Renderer, State, Style, Verbosity, err,
    text::{duration, table},
};

/// Measurements come each second; a log needs fewer.
const MEASURED_EVERY: Duration = Duration::from_secs(5);

pub struct Plain {
    verbosity: Verbosity,
    measured: Option<Instant>,
}

impl Plain {
    pub fn new(style: Style) -> Self {
        Plain { verbosity: style.verbosity, measured: None }
    }
}

impl Renderer for Plain {
    fn draw(&mut self, event: &Event) {
        if let Event::Measured { .. } = event {
            if self.measured.is_some_and(|last| last.elapsed() < MEASURED_EVERY) {
                return;
            }
            self.measured = Some(Instant::now());
        }
        for line in lines(event, self.verbosity) {
            err(&line);
        }
    }

    fn close(&mut self) {}
}

/// The lines of an event at this verbosity.
pub fn lines(event: &Event, verbosity: Verbosity) -> Vec<String> {
    let normal = verbosity >= Verbosity::Normal;
    let verbose = verbosity >= Verbosity::Verbose;
    match event {
        Event::Started { command, target, remembered, .. } if normal => {
            let mut lines = vec![format!("{command}: {target}")];
            lines.extend(from_last_up(remembered));
            lines
        }
        Event::PhaseStarted { phase, title } if normal => vec![format!("[{phase}] {title} …")],
        Event::PhaseSkipped { phase, title, reason } if normal => {
            vec![format!("[{phase}] {title}: nothing to do ({reason})")]
        }
        Event::PhaseDone { phase, title, outcome, elapsed } if normal => {
            vec![format!("[{phase}] {title}: {outcome} ({})", duration(*elapsed))]
        }
        Event::PhaseFailed { phase, title, elapsed, .. } => {
            vec![format!("[{phase}] {title}: FAILED after {}", duration(*elapsed))]
        }
        Event::Doing { phase, text } if verbose => vec![format!("[{phase}] {text}")],
        Event::Measured { phase, text, .. } if normal => vec![format!("[{phase}] {text}")],
        Event::Resource { phase, resource, state, detail } => {
            let waiting = matches!(state, State::Waiting | State::Ready);
            let shown = verbose || (normal && waiting) || *state == State::Failed;
            if !shown {
                return Vec::new();
            }
            let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
            vec![format!("[{phase}]   {resource}: {}{detail}", state.word())]
        }
        Event::Problem { phase, resource, reason, message, last_event, last_log, remedy, fatal } => {
            let level = if *fatal { "error" } else { "problem" };
            let message = problem_text(message, last_event.as_deref(), last_log);
            let mut lines = vec![format!("[{phase}] {level}: {resource}: {reason}: {message}")];
            lines.extend(remedy.iter().map(|remedy| format!("[{phase}]   try: {remedy}")));
            lines
        }
        Event::Warning { phase, text } => vec![format!("[{phase}] warning: {text}")],
        // Some tools colour what they print even off a terminal.
        Event::Output { phase, line } if verbose => vec![format!("[{phase}] | {}", strip_ansi_codes(line))],
        Event::Plan { phase, title, steps } => {
            let mut lines = vec![format!("[{phase}] {title}")];
            lines.extend(steps.iter().map(|step| format!("  - {step}")));
            lines
        }
        Event::Finished { command, ok, elapsed, facts, next, .. } if normal => {
            let outcome = if *ok { "done" } else { "failed" };
            let mut lines = vec![format!("{command}: {outcome} in {}", duration(*elapsed))];
            lines.extend(table(facts, "  "));
            if !next.is_empty() {
                lines.push("next:".into());
                lines.extend(table(next, "  "));
            }
            lines
        }
        _ => Vec::new(),
    }
}

/// What a command takes from the last `up`.
pub(super) fn from_last_up(remembered: &[String]) -> Option<String> {
    let all = remembered.join(", ");
    (!all.is_empty()).then(|| format!("from the last up of this stack: {all} (--forget drops one)"))
}

/// A problem's message with what is known beside it, as people read it.
pub(super) fn problem_text(message: &str, last_event: Option<&str>, last_log: &[String]) -> String {
    let mut text = message.to_owned();
    if let Some(event) = last_event {
        text.push_str(&format!("; last event: {event}"));
    }
    for line in last_log {
        text.push_str(&format!("\n    | {line}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::PhaseId;

    #[test]
    fn quiet_shows_problems_and_failures_only() {
        let problem = Event::Problem {
            phase: PhaseId::Web,
            resource: "Pod a/b".into(),
            reason: "ImagePullBackOff".into(),
            message: "no such image".into(),
            last_event: Some("Failed: pull".into()),
            last_log: vec!["panic".into()],
            remedy: Some("push it".into()),
            fatal: true,
        };
        assert_eq!(
            lines(&problem, Verbosity::Quiet),
            [
                "[web] error: Pod a/b: ImagePullBackOff: no such image; last event: Failed: pull\n    | panic",
                "[web]   try: push it"
            ]
        );
        let started = Event::PhaseStarted { phase: PhaseId::Web, title: "web".into() };
        assert!(lines(&started, Verbosity::Quiet).is_empty());
        assert_eq!(lines(&started, Verbosity::Normal).len(), 1);
    }
}
