//! `cargo xtask bench`: measurements, side by side with what one would do otherwise.

mod backup;
mod by_hand;
mod empty;
mod forward;
mod interrupt;
mod up;
mod web;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use serde::Serialize;

use crate::target_folder;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Benchmark {
    /// From nothing to a running stack, and once more: stackctl, kubectl by hand, helm.
    Up(up::BenchUpArgs),
    /// `up`, interrupted at random moments and run again: it must go on each time.
    Interrupt(interrupt::BenchInterruptArgs),
    /// The web app beside one of the same function in Flask, SQLAlchemy and gunicorn, and one in Go with pgx; and how it grows.
    Web(web::BenchWebArgs),
    /// Backups of a running stack: memory, base backups beside pg_basebackup, restores compared row by row.
    Backup(backup::BenchBackupArgs),
    /// A port-forward: stackctl's and kubectl's, to the same pod of a running cluster.
    Forward(forward::BenchForwardArgs),
}

/// Measures what is asked for.
///
/// # Errors
/// When something of it fails.
pub fn run(bench: &Benchmark) -> Result<()> {
    match bench {
        Benchmark::Up(args) => up::bench(args),
        Benchmark::Interrupt(args) => interrupt::bench(args),
        Benchmark::Web(args) => web::bench(args),
        Benchmark::Backup(args) => backup::bench(args),
        Benchmark::Forward(args) => forward::bench(args),
    }
}

/// Writes results as JSON: into the given file, or beside what Cargo builds.
fn write(results: &impl Serialize, file: Option<&Path>, name: &str) -> Result<PathBuf> {
    let file = file.map_or_else(|| target_folder().join(format!("{name}.json")), Path::to_owned);
    let mut text = serde_json::to_string_pretty(results)?;
    text.push('\n');
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}
