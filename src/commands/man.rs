//! `stackctl man`: man pages, one a command.

use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory;

use crate::{cli::Cli, error::Result, ui};

/// Writes `stackctl.1` and a page for each command into `dir`.
///
/// # Errors
/// When the folder cannot be made or written.
pub fn run(dir: &Path) -> Result<u8> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    clap_mangen::generate_to(Cli::command(), dir)
        .with_context(|| format!("cannot write the man pages into {}", dir.display()))?;
    ui::err(&format!("man pages written; read one with: man -l {}/stackctl.1", dir.display()));
    Ok(0)
}
