//! `user-app [serve|migrate|probe|load|version]`

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use stackctl_protocol::{load as load_protocol, probe as probe_protocol};
use tracing::level_filters::LevelFilter;
use user_app::app::VERSION;
use user_app::config::{Config, Database};
use user_app::{load, migrations, probe, serve};

// musl's own allocator takes a lock that all threads share.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!(error = format!("{e:#}"), "ended");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let level = std::env::var("LOG").unwrap_or_default();
    let level = if level.is_empty() { "info" } else { &level };
    let level: LevelFilter = level.parse().with_context(|| format!("LOG is {level:?}"))?;
    tracing_subscriber::fmt().json().flatten_event(true).with_target(false).with_max_level(level).init();
    match std::env::args().nth(1).as_deref() {
        None | Some("serve") => serve::serve(Config::from_env()?),
        Some("migrate") => migrate(),
        Some(probe_protocol::COMMAND) => send_writes(),
        Some(load_protocol::COMMAND) => send_load(),
        Some("version") => {
            tracing::info!(version = VERSION, "user-app");
            Ok(())
        }
        Some(other) => bail!("{other:?} is no command: serve, migrate, probe, load or version"),
    }
}

fn migrate() -> Result<()> {
    // Migrations run as blocking code inside the runtime, which takes a second thread.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let done = runtime.block_on(migrations::migrate(&Database::from_env()?))?;
    tracing::info!(done = done.join(" "), "the schema is up to date");
    Ok(())
}

fn send_writes() -> Result<()> {
    let web = std::env::var(probe_protocol::WEB_VARIABLE).unwrap_or_else(|_| "user-app:80".into());
    runtime()?.block_on(probe::probe(&Database::from_env()?, &web))
}

fn send_load() -> Result<()> {
    runtime()?.block_on(load::load(&load::LoadSettings::from_env()?))
}

/// The runtime of the programs that send requests rather than answer them.
fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
