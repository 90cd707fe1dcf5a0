//! `cargo xtask cluster-test`, `backups`, `clusters` and `interruptions`: the tests of `tests/cluster`, each from nothing to nothing, or
//! some of its steps on a cluster that is kept.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::bundle;
use crate::plan::Plan;
use crate::run::Run;
use crate::say::tell;
use crate::stackctl::DEBUG;
use crate::tally::{Tally, cargo, tests};

/// What the test understands: see `tests/cluster/suite.rs`.
const KEEP: &str = "STACKCTL_TEST_KEEP";
const LIST: &str = "STACKCTL_TEST_LIST";
/// How a step begins in the list that the test prints.
const STEP: &str = "step ";

/// Which of its tests: one is a part of every run, the others take half an hour and hours.
#[derive(Debug, Clone, Copy)]
pub enum ClusterTest {
    /// From nothing to a registered user and back to nothing.
    MainJob,
    /// Faults of the store of backups, and failovers beside backups.
    Backups,
    /// Others' operators and stacks in the same cluster.
    Shared,
    /// Drills that are killed.
    Interruptions,
}

/// What of the test is run.
#[derive(Debug, clap::Args)]
pub struct ClusterTestArgs {
    /// List the steps; run nothing.
    #[arg(long, conflicts_with_all = ["keep", "steps"])]
    list: bool,
    /// Keep the cluster, and make it where there is none; then run the steps that are named, if any is.
    #[arg(long)]
    keep: bool,
    /// Steps to run, in this order [default: all of them, from nothing to nothing].
    #[arg(value_name = "STEP", requires = "keep")]
    steps: Vec<String>,
    /// Do not ask before installing and starting things on this machine.
    #[arg(short, long)]
    yes: bool,
}

impl ClusterTest {
    /// The name of its function.
    fn function(self) -> &'static str {
        match self {
            Self::MainJob => "from_nothing_to_a_registered_user_and_back_to_nothing",
            Self::Backups => "backups_survive_what_befalls_their_store",
            Self::Shared => "what_others_have_in_the_cluster_stays_as_it_is",
            Self::Interruptions => "drills_that_are_killed_leave_everything_that_was_there",
        }
    }

    /// What it does to the machine, for whoever is asked.
    fn last_step(self, keep: bool) -> &'static str {
        match (self, keep) {
            (_, true) => "make a minikube profile unless it is there, and keep it",
            (Self::MainJob, false) => "make a minikube profile, and delete it again",
            (Self::Backups, false) => "make a minikube profile, break its backups on purpose, and delete it again",
            (Self::Shared, false) => "make a minikube profile, share it with others, and delete it again",
            (Self::Interruptions, false) => "make a minikube profile, kill drills on it, and delete it again",
        }
    }

    fn command(self) -> Run {
        cargo(&["test", "--locked", "--test", "cluster", self.function(), "--", "--ignored", "--nocapture"])
    }

    /// Runs what of it is asked for.
    ///
    /// # Errors
    /// When this machine lacks something, there is no step of a name, or the test fails.
    pub fn run(self, args: &ClusterTestArgs) -> Result<ExitCode> {
        let listed = self.steps()?;
        if args.list {
            listed.iter().for_each(|step| tell(step));
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(unknown) = unknown(&listed, &args.steps) {
            bail!("there is no step `{unknown}`; --list tells those that there are");
        }
        let plan = Plan::survey(true)?;
        plan.agree(args.yes, self.last_step(args.keep))?;
        bundle::make(&bundle::default_folder()?, &plan.packages, &DEBUG)?;
        if matches!(self, Self::Shared) {
            bundle::make_only(bundle::Only::Neighbours)?;
        }
        let kept = args.keep.then(|| args.steps.join(","));
        self.on_a_cluster(&mut Tally::default(), kept.as_deref())?;
        tell("passed");
        Ok(ExitCode::SUCCESS)
    }

    /// Its steps, a line each: the name, and what it shows.
    fn steps(self) -> Result<Vec<String>> {
        let printed = self.command().env(LIST, "1").output().context("the test does not list its steps")?;
        Ok(printed.lines().filter_map(|line| line.strip_prefix(STEP)).map(str::to_owned).collect())
    }

    /// Runs it on a minikube of its own, from the bundle: whole, or `kept` steps with commas between.
    ///
    /// # Errors
    /// When it fails.
    pub fn on_a_cluster(self, found: &mut Tally, kept: Option<&str>) -> Result<()> {
        let bundle = bundle::default_folder()?;
        let run = self
            .command()
            .env("STACKCTL_BUNDLE", &bundle)
            .env("PATH", path_with(&bundle.join("tools"), &bundle::programs_folder()?)?);
        let run = if let Some(steps) = kept { run.env(KEEP, steps) } else { run.without_env(KEEP) };
        tests(found, run.without_env(LIST))
    }
}

/// The first name that is not one of a listed step.
fn unknown<'a>(listed: &[String], named: &'a [String]) -> Option<&'a str> {
    let is_listed = |name: &str| listed.iter().any(|step| step.split_whitespace().next() == Some(name));
    named.iter().map(String::as_str).find(|name| !is_listed(name))
}

/// This process's PATH with two folders in front.
fn path_with(first: &Path, second: &Path) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        [first.to_owned(), second.to_owned()].into_iter().chain(std::env::split_paths(&path)).collect();
    std::env::join_paths(folders).context("a folder's name has a colon")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_known_by_its_whole_name() {
        let listed = ["up             the stack comes up".to_owned(), "up-again  nothing changes".to_owned()];
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(unknown(&listed, &named(&["up", "up-again"])), None);
        assert_eq!(unknown(&listed, &named(&["up", "up-ag", "x"])), Some("up-ag"));
        assert_eq!(unknown(&listed, &[]), None);
    }
}
