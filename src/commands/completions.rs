//! `stackctl completions`: shell completion scripts.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{cli::Cli, error::Result, ui};

/// Prints the script for `shell`.
///
/// # Errors
/// None today; the signature is that of every command.
pub fn run(shell: Shell) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "stackctl", &mut script);
    ui::out(&String::from_utf8_lossy(&script));
    Ok(0)
}
