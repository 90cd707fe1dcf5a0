//! Developer tasks of stackctl: `cargo xtask <task>`.

mod bench;
mod bundle;
mod cargo_tool;
mod cluster_test;
mod compile;
mod dashboards;
mod dist;
mod docs;
mod drills;
mod engine;
mod fuzz;
mod picture;
mod plan;
mod python;
mod run;
mod say;
mod stackctl;
#[path = "../../src/stats.rs"]
mod stats;
mod tally;
mod test;
mod up;
mod web;
mod webapp;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use cluster_test::ClusterTest;

/// Developer tasks of stackctl.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: DeveloperTask,
}

#[derive(Debug, Subcommand)]
enum DeveloperTask {
    /// From a bare machine to a running stack: installs and starts the engine where there is none, builds a
    /// bundle where no container registry answers, then runs `stackctl up`.
    Up(up::UpArgs),
    /// Every check of the project: format, lints, dependencies, tests, then the stack on a real cluster.
    Test(test::TestArgs),
    /// The stack on a real cluster, from nothing to nothing; or single steps of that on a cluster that is kept.
    ClusterTest(cluster_test::ClusterTestArgs),
    /// Every failover drill, several times, on clusters of one and of three nodes; prints a table for docs/measurements.
    Drills(drills::DrillsArgs),
    /// What befalls backups, on a cluster: a store that is killed, away, full, refuses; failovers beside them; retention
    Backups(cluster_test::ClusterTestArgs),
    /// A cluster that others use, too: an operator of somebody else's, two stacks of which either one goes
    Clusters(cluster_test::ClusterTestArgs),
    /// Drills that are killed at random moments (`STACKCTL_TEST_TIMES`: how often each, 20): nothing is lost, and all is undone
    Interruptions(cluster_test::ClusterTestArgs),
    /// Input that nobody thinks of, for hours: parsers by a fuzzer that coverage guides, the web app's API from its description.
    Fuzz(fuzz::FuzzArgs),
    /// The web app on a throw-away PostgreSQL of this machine, for working on it without a cluster.
    Web(web::WebArgs),
    /// Measure, side by side with what one would do otherwise.
    Bench {
        /// What to measure.
        #[command(subcommand)]
        bench: bench::Benchmark,
    },
    /// Make the dashboards in assets/dashboards from their source in xtask/src/dashboards.
    Dashboards,
    /// Make docs/reference.md from the command line's definitions, and docs/measurements.md from the figures that are kept.
    Docs,
    /// Take the README's picture of `stackctl up` in a terminal, from a real run in tmux.
    Picture(picture::PictureArgs),
    /// What is downloaded of a release: a static program with completions and man pages, sums, a bill of materials, provenance.
    Dist(dist::DistArgs),
    /// Make a bundle from sources: all that the stack needs where no container registry is in reach.
    Bundle {
        /// The folder to make [default: stackctl/bundle in the user's cache folder].
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Make only these parts, and link their programs into stackctl/airgap/bin in the cache.
        #[arg(long, value_enum, conflicts_with = "out")]
        only: Option<bundle::Only>,
        /// Do not ask before installing and starting things on this machine.
        #[arg(short, long)]
        yes: bool,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            say::tell(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(task: DeveloperTask) -> Result<ExitCode> {
    match task {
        DeveloperTask::Test(args) => return test::test(&args),
        DeveloperTask::Drills(args) => return drills::drills(&args),
        DeveloperTask::ClusterTest(args) => return ClusterTest::MainJob.run(&args),
        DeveloperTask::Backups(args) => return ClusterTest::Backups.run(&args),
        DeveloperTask::Clusters(args) => return ClusterTest::Shared.run(&args),
        DeveloperTask::Interruptions(args) => return ClusterTest::Interruptions.run(&args),
        DeveloperTask::Fuzz(args) => return fuzz::fuzz(&args),
        DeveloperTask::Up(args) => return Ok(ExitCode::from(u8::try_from(up::up(&args)?).unwrap_or(1))),
        DeveloperTask::Web(args) => web::web(&args)?,
        DeveloperTask::Bench { bench } => bench::run(&bench)?,
        DeveloperTask::Dashboards => dashboards::write()?,
        DeveloperTask::Docs => docs::write()?,
        DeveloperTask::Dist(args) => dist::dist(&args)?,
        DeveloperTask::Picture(args) => picture::picture(&args)?,
        DeveloperTask::Bundle { only: Some(only), .. } => {
            let folder = bundle::make_only(only)?;
            say::say(&format!("the programs are in {}", folder.display()));
        }
        DeveloperTask::Bundle { out, yes, .. } => {
            let plan = plan::Plan::survey(true)?;
            plan.agree(yes, "put everything into a bundle")?;
            bundle::make(&out.map_or_else(bundle::default_folder, Ok)?, &plan.packages, &stackctl::RELEASE)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder of the workspace that this program was built from. Cargo tells where it runs it from: with a
/// target folder that several checkouts share, the one that it was compiled in may be another.
pub fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let package = PathBuf::from(package);
    package.parent().unwrap_or(&package).to_owned()
}

/// Where Cargo puts what it builds: the folder that it was told, or the workspace's own.
pub fn target_folder() -> PathBuf {
    let told = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty());
    workspace().join(told.map_or_else(|| PathBuf::from("target"), PathBuf::from))
}
