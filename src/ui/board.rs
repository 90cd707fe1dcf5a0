//! What a terminal shows while a command runs: a line for each phase under way, the problems of the moment, and one clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{
    Event, PhaseId, State,
    fit::{cut, justified, telling},
    text::{Tone, duration, paint},
};

/// How many problems are shown at the same time; the rest is counted. With seven phases under way all of it fits into 24
/// lines.
const PROBLEMS: usize = 2;
const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
/// How long the spinner shows a sign.
const TURN: Duration = Duration::from_millis(100);

/// The state of the phases under way.
#[derive(Debug)]
pub struct Board {
    color: bool,
    /// Since when the whole command runs, and how long it took the last time.
    clock: Option<(Instant, Option<Duration>)>,
    running: Vec<RunningPhase>,
    problems: Vec<StandingProblem>,
}

#[derive(Debug)]
struct RunningPhase {
    phase: PhaseId,
    title: String,
    doing: String,
    waiting: BTreeMap<String, String>,
    ready: BTreeSet<String>,
    /// What changed last of what is waited for.
    latest: String,
    began: Instant,
}

/// A problem that was told and whose phase is still under way.
#[derive(Debug, Clone)]
pub struct StandingProblem {
    phase: PhaseId,
    resource: String,
    reason: String,
    message: String,
    last_event: Option<String>,
    log: Vec<String>,
    remedy: Option<String>,
    fatal: bool,
    since: Instant,
}

impl Board {
    /// A board with nothing on it.
    pub fn new(color: bool) -> Board {
        Board { color, clock: None, running: Vec::new(), problems: Vec::new() }
    }

    /// Takes in what happened.
    pub fn note(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Started { last_time, .. } => self.clock = Some((now, *last_time)),
            Event::PhaseStarted { phase, title } => self.running.push(RunningPhase {
                phase: *phase,
                title: title.clone(),
                doing: String::new(),
                waiting: BTreeMap::new(),
                ready: BTreeSet::new(),
                latest: String::new(),
                began: now,
            }),
            Event::Doing { phase, text } | Event::Measured { phase, text, .. } => {
                if let Some(running) = self.of(*phase) {
                    running.doing.clone_from(text);
                }
            }
            Event::Resource { phase, resource, state, detail } => {
                if let Some(running) = self.of(*phase) {
                    running.note(resource, *state, detail);
                }
            }
            Event::Problem { .. } => self.problems.extend(StandingProblem::of(event, now)),
            _ => {}
        }
    }

    /// Takes the phase from the board, with its problems.
    pub fn end(&mut self, phase: PhaseId) -> Vec<StandingProblem> {
        self.running.retain(|running| running.phase != phase);
        self.problems.extract_if(.., |problem| problem.phase == phase).collect()
    }

    /// Takes everything from the board; returns the phases that were under way, and for how long.
    pub fn stop(&mut self, now: Instant) -> Vec<(String, Duration)> {
        self.clock = None;
        self.problems.clear();
        self.running.drain(..).map(|running| (running.title, now.duration_since(running.began))).collect()
    }

    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        self.clock.is_none() && self.running.is_empty()
    }

    /// What is shown now, each line no wider than the terminal.
    pub fn frame(&self, width: usize, now: Instant) -> Vec<String> {
        let paint = |tone, text: &str| paint(self.color, tone, text);
        let began = self.clock.map(|(began, _)| began);
        let turned = began.or(self.running.first().map(|running| running.began));
        let turns = turned.map_or(0, |since| now.duration_since(since).as_millis() / TURN.as_millis());
        let spinner = SPINNER[usize::try_from(turns).unwrap_or(0) % SPINNER.len()];
        let mut lines = Vec::new();
        for running in &self.running {
            let left =
                format!("{spinner} {}  {}", paint(Tone::Strong, &running.title), paint(Tone::Dim, &running.text()));
            let time = duration(now.duration_since(running.began));
            lines.push(justified(&left, &paint(Tone::Dim, &time), width));
        }
        let hidden = self.problems.len().saturating_sub(PROBLEMS);
        for problem in &self.problems[hidden..] {
            lines.extend(problem.short(self.color, width, now));
        }
        if hidden > 0 {
            lines.push(cut(&paint(Tone::Dim, &format!("  and {hidden} earlier")), width).into_owned());
        }
        if let Some((began, last_time)) = self.clock {
            let last = last_time.map(|last| format!(", last time {}", duration(last))).unwrap_or_default();
            let clock = format!("  {} so far{last}", duration(now.duration_since(began)));
            lines.push(cut(&paint(Tone::Dim, &clock), width).into_owned());
        }
        lines
    }

    fn of(&mut self, phase: PhaseId) -> Option<&mut RunningPhase> {
        self.running.iter_mut().find(|running| running.phase == phase)
    }
}

impl RunningPhase {
    fn note(&mut self, resource: &str, state: State, detail: &str) {
        match state {
            State::Waiting | State::Failed => {
                self.ready.remove(resource);
                self.waiting.insert(resource.to_owned(), detail.to_owned());
                resource.clone_into(&mut self.latest);
            }
            State::Ready | State::Deleted => {
                // What never had to be waited for is no progress.
                if self.waiting.remove(resource).is_some() {
                    self.ready.insert(resource.to_owned());
                }
            }
            State::Created | State::Configured | State::Unchanged => {}
        }
    }

    /// What it does, or what it waits for.
    fn text(&self) -> String {
        let latest = self.waiting.get_key_value(&self.latest).or_else(|| self.waiting.iter().next());
        let Some((resource, detail)) = latest else { return self.doing.clone() };
        let all = self.ready.len() + self.waiting.len();
        let count = if all > 1 { format!("{}/{all}  ", self.ready.len()) } else { String::new() };
        // What changes comes first: it is the last to be cut off.
        format!("{count}{detail}  {resource}").replace("    ", "  ").trim_start().to_owned()
    }
}

impl StandingProblem {
    /// The problem that this event tells; `None` for any other event.
    pub fn of(event: &Event, now: Instant) -> Option<StandingProblem> {
        let Event::Problem { phase, resource, reason, message, last_event, last_log, remedy, fatal } = event else {
            return None;
        };
        Some(StandingProblem {
            phase: *phase,
            resource: resource.clone(),
            reason: reason.clone(),
            message: message.clone(),
            last_event: last_event.clone(),
            log: telling(last_log).into_iter().map(str::to_owned).collect(),
            remedy: remedy.clone(),
            fatal: *fatal,
            since: now,
        })
    }

    fn head(&self, color: bool) -> String {
        let tone = if self.fatal { Tone::Bad } else { Tone::Warn };
        format!("{} {}  {}", paint(color, tone, "!"), self.resource, paint(color, tone, &self.reason))
    }

    /// Two lines at most, for as long as it may pass by itself.
    pub fn short(&self, color: bool, width: usize, now: Instant) -> Vec<String> {
        let age = format!("{} ago", duration(now.duration_since(self.since)));
        let why = self.log.last().unwrap_or(&self.message);
        // A log may hold anything, and a line is to stay one.
        let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut lines = vec![justified(&self.head(color), &paint(color, Tone::Dim, &age), width)];
        if !why.trim().is_empty() {
            lines.push(cut(&paint(color, Tone::Dim, &format!("    {}", why.trim())), width).into_owned());
        }
        lines
    }

    /// Everything that is known, once it has ended as a failure; for [`super::fit::wrapped`].
    pub fn full(&self, color: bool) -> Vec<String> {
        let event = self.last_event.as_ref().map(|event| format!("; last event: {event}")).unwrap_or_default();
        let message = format!("{}{event}", self.message);
        let mut lines = vec![format!("{}  {}", self.head(color), message.replace('\n', " "))];
        lines.extend(self.log.iter().map(|line| format!("    | {line}")));
        lines.extend(self.remedy.iter().map(|remedy| format!("    try: {remedy}")));
        lines
    }
}
