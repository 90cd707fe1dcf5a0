//! `cargo xtask backups`: what befalls backups, on a real cluster; too long for every run of the tests.

use std::process::ExitCode;

use anyhow::Result;

use crate::plan::Plan;
use crate::say::tell;
use crate::stackctl::DEBUG;
use crate::{bundle, test};

/// What it asks for.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Do not ask before installing and starting things on this machine.
    #[arg(short, long)]
    yes: bool,
}

/// Runs that test of `tests/cluster`.
///
/// # Errors
/// When this machine lacks something, or the test fails.
pub fn backups(args: &Args) -> Result<ExitCode> {
    let plan = Plan::survey(true)?;
    plan.agree(args.yes, "make a minikube profile, break its backups on purpose, and delete it again")?;
    bundle::make(&bundle::default_folder()?, &plan.packages, &DEBUG)?;
    bundle::make_only(bundle::Only::ControlPlane)?;
    test::on_a_cluster(&mut test::Tally::default(), "backups_survive_what_befalls_their_store")?;
    tell("backups: passed");
    Ok(ExitCode::SUCCESS)
}
