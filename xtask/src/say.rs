//! The one place of the developer tasks that writes to the terminal.

use std::sync::OnceLock;
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();

/// One plain line of progress on standard error, with the time since the first one.
#[allow(clippy::print_stderr)]
pub fn say(line: &str) {
    let seconds = START.get_or_init(Instant::now).elapsed().as_secs();
    eprintln!("[{:>2}:{:02}] {line}", seconds / 60, seconds % 60);
}

/// Text for a person on standard error, as it is.
#[allow(clippy::print_stderr)]
pub fn tell(text: &str) {
    eprintln!("{text}");
}
