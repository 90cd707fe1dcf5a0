//! `stackctl` brings up a highly available web and PostgreSQL stack on Kubernetes and proves that it
//! survives.
//!
//! `docs/architecture.md` has the map of the modules, and a test holds which way their imports go. What is public here is
//! what the binary and the test crates use.

mod address;
pub mod assets;
pub mod backup;
mod bundle;
pub mod checks;
pub mod cli;
mod commands;
pub mod config;
pub mod context;
pub mod database;
pub mod desired;
pub mod drills;
pub mod error;
mod fetch;
pub mod kube;
mod leftovers;
mod load;
pub mod monitoring;
mod names;
mod part;
pub mod phases;
mod poll;
mod progress;
mod random;
pub mod reach;
mod restore;
mod stats;
pub mod status;
mod tools;
pub mod ui;

/// Runs the command line of this process; the number is the exit code.
pub async fn run() -> u8 {
    let cli = match cli::Cli::from_process() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" of clap that go to stdout with code 0; usage errors exit with 2.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    commands::run(cli).await
}
