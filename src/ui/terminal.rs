//! A live view for a terminal: one spinner a running phase with what it waits for, and a line for each
//! phase that has ended.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    Event, PhaseId, Renderer, State, Style, Verbosity, plain,
    text::{Tone, duration, paint, table},
    with_target,
};

/// How many resources a running phase lists; the rest is counted.
const LISTED: usize = 4;

struct RunningPhase {
    bar: ProgressBar,
    title: String,
    doing: String,
    waiting: BTreeMap<String, String>,
    ready: usize,
    began: Instant,
}

pub struct Terminal {
    style: Style,
    screen: MultiProgress,
    phases: HashMap<PhaseId, RunningPhase>,
}

impl Terminal {
    pub fn new(style: Style) -> Self {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(12));
        Terminal { style, screen, phases: HashMap::new() }
    }

    fn line(&self, text: &str) {
        // Fails only when the terminal is gone, and then there is nobody to tell.
        let _ = self.screen.println(with_target(text).as_ref());
    }

    fn paint(&self, tone: Tone, text: &str) -> String {
        paint(self.style.color, tone, text)
    }

    fn quiet(&self) -> bool {
        self.style.verbosity < Verbosity::Normal
    }

    fn start(&mut self, phase: PhaseId, title: &str) {
        let bar = self.screen.add(ProgressBar::new_spinner());
        // The template is a constant of ours; should indicatif ever refuse it, its default still shows the message.
        let style =
            ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
        bar.enable_steady_tick(Duration::from_millis(100));
        let running = RunningPhase {
            bar,
            title: title.to_owned(),
            doing: String::new(),
            waiting: BTreeMap::new(),
            ready: 0,
            began: Instant::now(),
        };
        self.phases.insert(phase, running);
        self.redraw(phase);
    }

    fn redraw(&self, phase: PhaseId) {
        let Some(running) = self.phases.get(&phase) else { return };
        let mut text = self.paint(Tone::Strong, &running.title);
        if running.ready > 0 || !running.waiting.is_empty() {
            let counts = format!("  {} ready, {} to go", running.ready, running.waiting.len());
            text.push_str(&self.paint(Tone::Dim, &counts));
        }
        if !running.doing.is_empty() {
            text.push_str(&self.paint(Tone::Dim, &format!("  {}", running.doing)));
        }
        for (resource, detail) in running.waiting.iter().take(LISTED) {
            text.push_str(&self.paint(Tone::Dim, &format!("\n    {resource}  {detail}")));
        }
        if running.waiting.len() > LISTED {
            text.push_str(&self.paint(Tone::Dim, &format!("\n    and {} more", running.waiting.len() - LISTED)));
        }
        running.bar.set_message(text);
    }

    fn end(&mut self, phase: PhaseId) {
        if let Some(running) = self.phases.remove(&phase) {
            running.bar.finish_and_clear();
            self.screen.remove(&running.bar);
        }
    }
}

impl Renderer for Terminal {
    fn draw(&mut self, event: &Event) {
        match event {
            Event::PhaseStarted { phase, title } if !self.quiet() => self.start(*phase, title),
            Event::Doing { phase, text } | Event::Measured { phase, text, .. } => {
                if let Some(running) = self.phases.get_mut(phase) {
                    running.doing.clone_from(text);
                }
                self.redraw(*phase);
            }
            Event::Resource { phase, resource, state, detail } => {
                if let Some(running) = self.phases.get_mut(phase) {
                    match state {
                        State::Waiting | State::Failed => {
                            running.waiting.insert(resource.clone(), detail.clone());
                        }
                        State::Ready => {
                            running.waiting.remove(resource);
                            running.ready += 1;
                        }
                        _ => {}
                    }
                }
                self.redraw(*phase);
                if self.style.verbosity >= Verbosity::Verbose {
                    self.line(&self.paint(Tone::Dim, &format!("    {resource}  {} {detail}", state.word())));
                }
            }
            Event::PhaseDone { phase, title, outcome, elapsed } => {
                self.end(*phase);
                if !self.quiet() {
                    let time = self.paint(Tone::Dim, &duration(*elapsed));
                    self.line(&format!("{} {title}  {outcome}  {time}", self.paint(Tone::Good, "✓")));
                }
            }
            Event::PhaseSkipped { phase, title, reason } => {
                self.end(*phase);
                if !self.quiet() {
                    self.line(&self.paint(Tone::Dim, &format!("· {title}  {reason}")));
                }
            }
            Event::PhaseFailed { phase, title, elapsed, .. } => {
                self.end(*phase);
                let time = self.paint(Tone::Dim, &duration(*elapsed));
                self.line(&format!("{} {title}  failed  {time}", self.paint(Tone::Bad, "✗")));
            }
            Event::Problem { resource, reason, message, last_event, last_log, remedy, fatal, .. } => {
                let message = plain::problem_text(message, last_event.as_deref(), last_log);
                let tone = if *fatal { Tone::Bad } else { Tone::Warn };
                self.line(&format!("{} {resource}  {}  {message}", self.paint(tone, "!"), self.paint(tone, reason)));
                if let Some(remedy) = remedy {
                    self.line(&format!("    try: {remedy}"));
                }
            }
            Event::Warning { text, .. } => self.line(&format!("{} {text}", self.paint(Tone::Warn, "!"))),
            Event::Finished { ok, elapsed, facts, next, command, .. } if !self.quiet() => {
                let (tone, outcome) = if *ok { (Tone::Good, "done") } else { (Tone::Bad, "failed") };
                self.line("");
                self.line(&format!("{} in {}", self.paint(tone, &format!("{command} {outcome}")), duration(*elapsed)));
                for line in table(facts, "  ") {
                    self.line(&line);
                }
                if !next.is_empty() {
                    self.line("");
                    self.line(&self.paint(Tone::Strong, "Next"));
                    for line in table(next, "  ") {
                        self.line(&line);
                    }
                }
            }
            other => {
                for line in plain::lines(other, self.style.verbosity) {
                    self.line(&line);
                }
            }
        }
    }

    fn close(&mut self) {
        for (_, running) in self.phases.drain() {
            // What was running when the command ended: keep its last state on the screen, without a spinner.
            running.bar.finish_and_clear();
            let _ = self.screen.println(format!(
                "· {}  stopped after {}",
                running.title,
                duration(running.began.elapsed())
            ));
        }
        let _ = self.screen.clear();
    }
}
