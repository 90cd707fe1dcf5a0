//! `stackctl` brings up a highly available web and PostgreSQL stack on Kubernetes and proves that it
//! survives.
//!
//! # The map
//! - [`cli`] → [`config`] → [`commands`]: a command is one function; it reads the configuration,
//!   composes [`phases`] and returns.
//! - [`phases`] do the work of `up`: they send [`ui::Event`]s and never print.
//! - [`checks`] are data: what is looked at, how, and the remedy; preflight and `doctor` share them.
//! - Three doors: only [`ui`] writes to a terminal, only [`kube`] speaks the Kubernetes API, only
//!   [`tools`] starts a process.
//! - [`reach`] leads a local port to a page of the stack; [`load`] sends load and watches the app scale.
//! - [`backup`] knows the store of backups, restores into a new database and has the app use it.
//! - [`assets`] are the embedded manifests and the web image's build context; [`bundle`] is a folder
//!   that replaces every download.
//! - [`error`] holds kinds, exit codes and remedies.

pub mod assets;
pub mod backup;
pub mod bundle;
pub mod checks;
pub mod cli;
pub mod commands;
pub mod config;
pub mod context;
pub mod database;
pub mod desired;
pub mod drills;
pub mod error;
pub mod fetch;
pub mod kube;
pub mod load;
pub mod monitoring;
pub mod names;
pub mod phases;
pub mod poll;
pub mod progress;
pub mod random;
pub mod reach;
pub mod restore;
pub mod stats;
pub mod status;
pub mod tools;
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
