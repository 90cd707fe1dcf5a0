//! The only door to the terminal: [`Event`]s come in, one of three renderers draws them on stderr
//! (or, as JSON lines, on stdout); data that a command was asked for goes to stdout by [`out`].

mod board;
mod event;
mod fit;
pub mod human;
mod json;
pub mod log;
mod paste;
mod phase;
mod plain;
pub mod prompt;
mod terminal;
mod text;
pub use paste::{json_with_target, quoted, set_kubectl_flags, set_target_flags, with_target};
pub use text::{Tone, paint, table};

use std::{
    io::{IsTerminal, Write},
    sync::OnceLock,
    time::Duration,
};

pub use event::{Event, State};
pub use phase::PhaseId;
use tokio::sync::mpsc;

/// How soon a command that waits for news notices that nobody reads its output any more.
const STDOUT_LOOKED_AT_EVERY: Duration = Duration::from_millis(500);

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// `-q`: problems and errors only.
    Quiet,
    /// Phases and their outcomes, and what is slow.
    Normal,
    /// `-v`: every resource's change and the tools' own output.
    Verbose,
}

/// How events are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Spinners and lines that are redrawn, on stderr.
    Terminal,
    /// A line an event, on stderr; for logs and CI.
    Plain,
    /// A JSON object a line, on stdout.
    Json,
}

/// What the environment and the flags ask for.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// How events are drawn.
    pub mode: Mode,
    /// How much is shown.
    pub verbosity: Verbosity,
    /// Whether colours may be used (`NO_COLOR`, not a terminal: no).
    pub color: bool,
}

impl Style {
    /// Decides once, from whether stderr is a terminal, `NO_COLOR` and `TERM`.
    pub fn detect(json: bool, verbosity: Verbosity) -> Self {
        let tty = std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let mode = match (json, tty) {
            (true, _) => Mode::Json,
            (false, true) => Mode::Terminal,
            (false, false) => Mode::Plain,
        };
        Style { mode, verbosity, color: tty && !no_color }
    }
}

trait Renderer: Send {
    fn draw(&mut self, event: &Event);
    /// Removes what is only there while something runs; called once, last.
    fn close(&mut self);
}

/// Where events are sent; cheap to clone.
#[derive(Debug, Clone)]
pub struct Reporter {
    sender: Option<mpsc::UnboundedSender<Event>>,
}

impl Reporter {
    /// Sends an event; never blocks and never fails.
    pub fn send(&self, event: Event) {
        if let Some(sender) = &self.sender {
            // The renderer ends only after the last sender is gone, or with the process.
            let _ = sender.send(event);
        }
    }

    /// A reporter that nobody listens to.
    pub fn discard() -> Self {
        Reporter { sender: None }
    }

    /// A reporter and the receiving end, for those who watch events themselves.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Reporter { sender: Some(sender) }, receiver)
    }
}

/// The task that draws; [`Screen::close`] must be awaited before anything else is printed.
#[derive(Debug)]
pub struct Screen {
    drawing: tokio::task::JoinHandle<()>,
    stop: tokio::sync::oneshot::Sender<()>,
}

/// Starts drawing.
pub fn open(style: Style) -> (Reporter, Screen) {
    let (reporter, mut events) = Reporter::channel();
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let mut renderer: Box<dyn Renderer> = match style.mode {
        Mode::Terminal => Box::new(terminal::Terminal::new(style)),
        Mode::Plain => Box::new(plain::Plain::new(style)),
        Mode::Json => Box::new(json::Json),
    };
    let drawing = tokio::spawn(async move {
        loop {
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Some(event) => renderer.draw(&event),
                    None => break,
                },
                _ = &mut stopped => break,
            }
        }
        renderer.close();
    });
    (reporter, Screen { drawing, stop })
}

impl Screen {
    /// Draws what has been sent, removes spinners and restores the terminal.
    pub async fn close(self) {
        let _ = self.stop.send(());
        // A renderer that panicked has nothing left to restore.
        let _ = self.drawing.await;
    }
}

/// The first failure to write to stdout, other than a closed pipe: `/dev/full`, a full disk, a lost terminal.
static WRITE_FAILURE: OnceLock<String> = OnceLock::new();

/// Writes data that the user asked for to stdout. A closed pipe (`| head`) ends the output, not the command; any other
/// failure is kept for [`write_failure`].
pub fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let line_end = if text.ends_with('\n') { "" } else { "\n" };
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.write_all(line_end.as_bytes()))
        .and_then(|()| stdout.flush());
    if let Err(error) = written
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        let _ = WRITE_FAILURE.set(error.to_string());
    }
}

/// The reason why something that was written by [`out`] did not arrive; `None` when everything did, or nobody reads any
/// more.
pub fn write_failure() -> Option<&'static str> {
    WRITE_FAILURE.get().map(String::as_str)
}

/// Ends when nobody reads stdout any more (`logs -f | head`), which a command that waits for news would notice at the
/// next line only. Never ends where stdout is no pipe.
pub async fn stdout_closed() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut looks = tokio::time::interval(STDOUT_LOOKED_AT_EVERY);
    loop {
        looks.tick().await;
        let stdout = std::io::stdout();
        // Asked for no event at all, the kernel still tells of a pipe whose reader is gone.
        let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut asked, Some(&at_once)).is_ok() && asked[0].revents().contains(PollFlags::ERR) {
            return;
        }
    }
}

/// Writes a command's error to stderr, wrapped between words where that is a terminal.
pub fn err_wrapped(text: &str, style: Style) {
    if style.mode != Mode::Terminal {
        return err(text);
    }
    for paragraph in with_target(text).lines() {
        for line in fit::wrapped(paragraph, fit::columns(), 4) {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }
}

/// Writes a line to stderr, outside the renderers: errors before and after they run.
pub fn err(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", with_target(line));
}
