//! One file a command: reads the configuration, composes phases, returns.

use crate::cli::Cli;

/// Runs the command; the number is the exit code.
pub async fn run(cli: Cli) -> u8 {
    let _ = cli;
    0
}
