//! What the program does inside, for whoever looks for the cause of a fault.

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// How much of it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// What went wrong and was put up with.
    Warn,
    /// Also every request to the API server, every program started, and what is tried again.
    Debug,
}

/// Writes it to stderr from now on, a line each: of this program alone, since what its libraries tell may hold headers
/// and bodies.
pub fn start(level: Level) {
    let level = match level {
        Level::Warn => LevelFilter::WARN,
        Level::Debug => LevelFilter::DEBUG,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let ours = Targets::new().with_target(env!("CARGO_CRATE_NAME"), level);
    // A second call, as by a test, leaves the first one's.
    let _ = tracing_subscriber::registry().with(lines).with(ours).try_init();
}
