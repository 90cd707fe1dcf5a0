//! A live view for a terminal: below, what is under way (the [`Board`]); above, a line for each phase that has ended.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::{
    Event, Renderer, Style, Verbosity,
    board::{Board, StandingProblem},
    fit::{columns, cut, justified, table, wrapped},
    plain,
    text::{Tone, duration, paint},
    with_target,
};

/// How often the live part is drawn anew.
const REDRAWN_EVERY: Duration = Duration::from_millis(100);

/// Tells how many columns the terminal has; asked each time, for a window may be made narrower.
type Width = Arc<dyn Fn() -> usize + Send + Sync>;

pub struct Terminal {
    style: Style,
    screen: MultiProgress,
    width: Width,
    board: Arc<Mutex<Board>>,
    /// The live part, while there is something on the board.
    live: Option<ProgressBar>,
}

impl Terminal {
    pub fn new(style: Style) -> Self {
        Terminal::on(style, ProgressDrawTarget::stderr_with_hz(12), Arc::new(columns))
    }

    fn on(style: Style, target: ProgressDrawTarget, width: Width) -> Self {
        let board = Arc::new(Mutex::new(Board::new(style.color)));
        Terminal { style, screen: MultiProgress::with_draw_target(target), width, board, live: None }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the live part while it has something to show, and only then.
    fn refresh(&mut self) {
        // Not while it is drawn, which looks at the board itself.
        let is_empty = self.board().is_empty();
        match self.live.take() {
            Some(live) if is_empty => {
                live.finish_and_clear();
                self.screen.remove(&live);
            }
            None if !is_empty => self.live = Some(self.open()),
            as_it_was => self.live = as_it_was,
        }
    }

    fn open(&self) -> ProgressBar {
        let (board, width) = (self.board.clone(), self.width.clone());
        let frame = move |_: &ProgressState, out: &mut dyn fmt::Write| {
            let board = board.lock().unwrap_or_else(PoisonError::into_inner);
            // A string takes every line.
            let _ = out.write_str(&board.frame(width(), Instant::now()).join("\n"));
        };
        let bar = self.screen.add(ProgressBar::new_spinner());
        // The template is a constant of ours; should indicatif ever refuse it, its default still shows a spinner.
        let style = ProgressStyle::with_template("{frame}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        bar.set_style(style.with_key("frame", frame));
        bar.enable_steady_tick(REDRAWN_EVERY);
        bar
    }

    fn line(&self, text: &str) {
        // Fails only when the terminal is gone, and then there is nobody to tell.
        let _ = self.screen.println(text);
    }

    /// Prints all of it, wrapped between words.
    fn whole(&self, text: &str, indent: usize) {
        for paragraph in with_target(text).lines() {
            for line in wrapped(paragraph, (self.width)(), indent) {
                self.line(&line);
            }
        }
    }

    fn paint(&self, tone: Tone, text: &str) -> String {
        paint(self.style.color, tone, text)
    }

    fn is_quiet(&self) -> bool {
        self.style.verbosity < Verbosity::Normal
    }

    fn ended(&self, sign: &str, tone: Tone, text: &str, elapsed: Duration) {
        let left = format!("{} {text}", self.paint(tone, sign));
        self.line(&justified(&left, &self.paint(Tone::Dim, &duration(elapsed)), (self.width)()));
    }

    fn full(&self, problem: &StandingProblem) {
        for line in problem.full(self.style.color) {
            self.whole(&line, 4);
        }
    }

    fn finished(&self, outcome: &str, facts: &[(String, String)], next: &[(String, String)]) {
        let width = (self.width)();
        let rows = |rows: &[(String, String)]| -> Vec<(String, String)> {
            rows.iter()
                .map(|(label, value)| (with_target(label).into_owned(), with_target(value).into_owned()))
                .collect()
        };
        self.line("");
        self.line(outcome);
        table(&rows(facts), width).iter().for_each(|line| self.line(line));
        if !next.is_empty() {
            self.line("");
            self.line(&self.paint(Tone::Strong, "Next"));
            table(&rows(next), width).iter().for_each(|line| self.line(line));
        }
    }
}

impl Renderer for Terminal {
    fn draw(&mut self, event: &Event) {
        let now = Instant::now();
        // Quiet shows nothing live, and verbose every problem at once: what is on the board is for in between.
        let at_once = self.style.verbosity != Verbosity::Normal;
        let problem = StandingProblem::of(event, now);
        let standing = match event {
            Event::PhaseDone { phase, .. } | Event::PhaseSkipped { phase, .. } | Event::PhaseFailed { phase, .. } => {
                self.board().end(*phase)
            }
            _ => Vec::new(),
        };
        if let Event::Finished { .. } = event {
            self.board().stop(now);
        }
        let is_told_at_once = at_once && problem.is_some();
        if !self.is_quiet() && !is_told_at_once {
            self.board().note(event, now);
        }
        self.refresh();
        match event {
            Event::PhaseStarted { .. } | Event::Doing { .. } | Event::Measured { .. } => {}
            Event::Resource { resource, state, detail, .. } => {
                if self.style.verbosity >= Verbosity::Verbose {
                    let line = format!("    {resource}  {} {detail}", state.word());
                    self.line(&self.paint(Tone::Dim, &cut(&line, (self.width)())));
                }
            }
            Event::PhaseDone { title, outcome, elapsed, .. } if !self.is_quiet() => {
                self.ended("✓", Tone::Good, &format!("{title}  {outcome}"), *elapsed);
            }
            Event::PhaseSkipped { title, reason, .. } if !self.is_quiet() => {
                let line = format!("· {title}  {reason}");
                self.line(&self.paint(Tone::Dim, &cut(&line, (self.width)())));
            }
            Event::PhaseDone { .. } | Event::PhaseSkipped { .. } => {}
            Event::PhaseFailed { title, elapsed, .. } => {
                self.ended("✗", Tone::Bad, &format!("{title}  failed"), *elapsed);
                standing.iter().for_each(|problem| self.full(problem));
            }
            Event::Problem { .. } => {
                if at_once {
                    problem.iter().for_each(|problem| self.full(problem));
                }
            }
            Event::Warning { text, .. } => self.whole(&format!("{} {text}", self.paint(Tone::Warn, "!")), 2),
            Event::Finished { ok, elapsed, facts, next, command, .. } if !self.is_quiet() => {
                let (tone, outcome) = if *ok { (Tone::Good, "done") } else { (Tone::Bad, "failed") };
                let outcome = self.paint(tone, &format!("{command} {outcome}"));
                self.finished(&format!("{outcome} in {}", duration(*elapsed)), facts, next);
            }
            Event::Started { .. } => {
                for line in plain::lines(event, self.style.verbosity) {
                    self.whole(&line, 2);
                }
            }
            other => {
                for line in plain::lines(other, self.style.verbosity) {
                    self.line(&with_target(&line));
                }
            }
        }
    }

    fn close(&mut self) {
        let stopped = self.board().stop(Instant::now());
        self.refresh();
        // What was running when the command ended.
        for (title, elapsed) in stopped {
            self.line(&cut(&format!("· {title}  stopped after {}", duration(elapsed)), (self.width)()));
        }
        let _ = self.screen.clear();
    }
}

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;

    use super::*;
    use crate::ui::{PhaseId, State};

    /// What a terminal of that size shows, with every line that was ever drawn no wider than it.
    struct Shown {
        term: InMemoryTerm,
        view: Terminal,
    }

    fn screen(columns: u16, verbosity: Verbosity) -> Shown {
        let term = InMemoryTerm::new(24, columns);
        let style = Style { mode: crate::ui::Mode::Terminal, verbosity, color: false };
        let target = ProgressDrawTarget::term_like(Box::new(term.clone()));
        let width = usize::from(columns);
        Shown { term, view: Terminal::on(style, target, Arc::new(move || width)) }
    }

    impl Shown {
        fn draw(&mut self, events: impl IntoIterator<Item = Event>) -> String {
            for event in events {
                self.view.draw(&event);
            }
            if let Some(live) = &self.view.live {
                live.force_draw();
            }
            let contents = self.term.contents();
            // How far the spinner and the clock are differs from run to run.
            let turned = contents.replace(|c| ('⠀'..='⣿').contains(&c), "⠋");
            let turned = (1..10).fold(turned, |text, tenths| text.replace(&format!("0.{tenths}s"), "0.0s"));
            turned.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
        }
    }

    const DATABASE: PhaseId = PhaseId::Database;

    fn begun() -> Vec<Event> {
        let title = |text: &str| text.to_owned();
        vec![
            Event::Started {
                command: "up".into(),
                target: "minikube profile stackctl".into(),
                remembered: vec!["--bundle /home/ada/.cache/stackctl/bundle".into()],
                last_time: Some(Duration::from_secs(130)),
            },
            Event::PhaseStarted { phase: PhaseId::Operator, title: title("CloudNativePG operator") },
            Event::PhaseDone {
                phase: PhaseId::Operator,
                title: title("CloudNativePG operator"),
                outcome: "26 applied".into(),
                elapsed: Duration::from_secs(19),
            },
            Event::PhaseStarted { phase: DATABASE, title: title("PostgreSQL, 3 instances") },
            Event::Resource {
                phase: DATABASE,
                resource: "Cluster user-app/user-db".into(),
                state: State::Waiting,
                detail: "1/3 instances ready, Creating a new replica".into(),
            },
        ]
    }

    fn problem(fatal: bool) -> Event {
        let panic = "panic: dial tcp 10.96.0.1:443: connect: connection refused";
        let log = [panic, "", "goroutine 1 [running]:", "main.main()", "\t/src/cmd/main.go:40 +0x18"];
        Event::Problem {
            phase: DATABASE,
            resource: "Pod user-app/user-db-1".into(),
            reason: "CrashLoopBackOff".into(),
            message: "back-off 10s restarting failed container".into(),
            last_event: Some("BackOff: restarting".into()),
            last_log: log.map(str::to_owned).to_vec(),
            remedy: Some("look at stackctl logs database".into()),
            fatal,
        }
    }

    #[test]
    fn a_phase_is_a_line_cut_to_the_width() {
        insta::assert_snapshot!(screen(80, Verbosity::Normal).draw(begun()), @r"
        up: minikube profile stackctl
        from the last up of this stack: --bundle /home/ada/.cache/stackctl/bundle
          (--forget drops one)
        ✓ CloudNativePG operator  26 applied                                        19s
        ⠋ PostgreSQL, 3 instances  1/3 instances ready, Creating a new replica  …  0.0s
          0.0s so far, last time 2m10s
        ");
        insta::assert_snapshot!(screen(40, Verbosity::Normal).draw(begun()), @r"
        up: minikube profile stackctl
        from the last up of this stack:
          --bundle
          /home/ada/.cache/stackctl/bundle
          (--forget drops one)
        ✓ CloudNativePG operator  26 appl…  19s
        ⠋ PostgreSQL, 3 instances  1/3 i…  0.0s
          0.0s so far, last time 2m10s
        ");
    }

    #[test]
    fn a_problem_that_may_pass_takes_two_lines_and_leaves_no_trace_when_it_has_passed() {
        let mut screen = screen(80, Verbosity::Normal);
        screen.draw(begun());
        insta::assert_snapshot!(screen.draw([problem(false)]), @r"
        up: minikube profile stackctl
        from the last up of this stack: --bundle /home/ada/.cache/stackctl/bundle
          (--forget drops one)
        ✓ CloudNativePG operator  26 applied                                        19s
        ⠋ PostgreSQL, 3 instances  1/3 instances ready, Creating a new replica  …  0.0s
        ! Pod user-app/user-db-1  CrashLoopBackOff                             0.0s ago
            panic: dial tcp 10.96.0.1:443: connect: connection refused
          0.0s so far, last time 2m10s
        ");
        let done = Event::PhaseDone {
            phase: DATABASE,
            title: "PostgreSQL, 3 instances".into(),
            outcome: "3/3 ready, primary user-db-1".into(),
            elapsed: Duration::from_secs(65),
        };
        insta::assert_snapshot!(screen.draw([done]), @r"
        up: minikube profile stackctl
        from the last up of this stack: --bundle /home/ada/.cache/stackctl/bundle
          (--forget drops one)
        ✓ CloudNativePG operator  26 applied                                        19s
        ✓ PostgreSQL, 3 instances  3/3 ready, primary user-db-1                     65s
          0.0s so far, last time 2m10s
        ");
    }

    #[test]
    fn a_problem_that_ends_as_a_failure_is_told_whole_but_for_the_stack_trace() {
        let mut screen = screen(60, Verbosity::Normal);
        screen.draw(begun());
        let failed = Event::PhaseFailed {
            phase: DATABASE,
            title: "PostgreSQL, 3 instances".into(),
            error: "no".into(),
            elapsed: Duration::from_secs(12),
        };
        insta::assert_snapshot!(screen.draw([problem(true), failed]), @r"
        up: minikube profile stackctl
        from the last up of this stack: --bundle
          /home/ada/.cache/stackctl/bundle (--forget drops one)
        ✓ CloudNativePG operator  26 applied                    19s
        ✗ PostgreSQL, 3 instances  failed                       12s
        ! Pod user-app/user-db-1  CrashLoopBackOff  back-off 10s
            restarting failed container; last event: BackOff:
            restarting
            | panic: dial tcp 10.96.0.1:443: connect: connection
            refused
            try: look at stackctl logs database
          0.0s so far, last time 2m10s
        ");
    }

    #[test]
    fn the_end_fits_a_narrow_terminal_and_leaves_no_clock() {
        let mut screen = screen(40, Verbosity::Normal);
        screen.draw(begun());
        let finished = Event::Finished {
            command: "up".into(),
            ok: true,
            elapsed: Duration::from_secs(130),
            requests: 1,
            facts: vec![("app".into(), "Service user-app/user-app, port 80".into())],
            next: vec![("stackctl status".into(), "every part's health".into())],
        };
        insta::assert_snapshot!(screen.draw([finished]), @r"
        up: minikube profile stackctl
        from the last up of this stack:
          --bundle
          /home/ada/.cache/stackctl/bundle
          (--forget drops one)
        ✓ CloudNativePG operator  26 appl…  19s

        up done in 2m10s
          app  Service user-app/user-app, port
               80

        Next
          stackctl status  every part's health
        ");
    }

    #[test]
    fn quiet_shows_problems_and_failures_and_nothing_live() {
        let mut screen = screen(80, Verbosity::Quiet);
        assert_eq!(screen.draw(begun()), "");
        let shown = screen.draw([problem(true)]);
        assert!(shown.starts_with("! Pod user-app/user-db-1  CrashLoopBackOff") && shown.contains("try:"), "{shown}");
    }
}
