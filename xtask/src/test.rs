//! `cargo xtask test`: every check of the project in one run, the cheap ones first.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::cluster_test::ClusterTest;
use crate::engine::install;
use crate::plan::Plan;
use crate::run::Run;
use crate::say::{say, tell};
use crate::stackctl::DEBUG;
use crate::{bundle, workspace};

/// cargo-deny is built from its sources once and kept; pinned, since its rules are part of the check.
const CARGO_DENY: &str = "0.20.2";
/// Nothing here takes longer on two cores; a hang must not eat the time of the whole run.
const STEP_SECONDS: u64 = 40 * 60;

/// What to leave out.
#[derive(Debug, clap::Args)]
pub struct TestArgs {
    /// Leave out the run on a real cluster, and with it the bundle.
    #[arg(long)]
    no_cluster: bool,
    /// Install and start what is missing without asking; taken for granted where the variable CI is set.
    #[arg(short, long)]
    yes: bool,
}

/// What one step has found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    passed: u32,
    failed: u32,
}

impl Tally {
    /// A step that is one check by itself, and has passed.
    const ONE: Self = Self { passed: 1, failed: 0 };

    /// Adds what a line of a test program's output tells, if it is its last one.
    fn count(&mut self, line: &str) {
        let Some(rest) = line.trim().strip_prefix("test result: ") else { return };
        let number = |what: &str| {
            let part = rest.split([';', '.']).map(str::trim).find_map(|part| part.strip_suffix(what));
            part.and_then(|number| number.trim().parse::<u32>().ok()).unwrap_or(0)
        };
        self.passed += number("passed");
        self.failed += number("failed");
    }
}

type Step<'a> = (&'static str, Box<dyn Fn(&mut Tally) -> Result<()> + 'a>);

/// Runs them all; ends at the first step that fails. The last line tells how many checks passed and failed.
///
/// # Errors
/// When this machine lacks something and it may not be installed.
pub fn test(args: &TestArgs) -> Result<ExitCode> {
    let yes = args.yes || std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    let plan = if args.no_cluster { Plan::nothing() } else { Plan::survey(true)? }.with(&install::TESTS);
    plan.agree(yes, "run every check; the ones on a real cluster make a minikube profile and delete it again")?;

    let mut total = Tally::default();
    let mut times = Vec::new();
    for (title, step) in steps(args, &plan) {
        say(&format!("== {title}"));
        let (began, mut found) = (Instant::now(), Tally::default());
        let outcome = step(&mut found);
        total.passed += found.passed;
        total.failed += found.failed;
        times.push((title, began.elapsed()));
        if let Err(error) = outcome {
            // What fails as a whole is one failure, whatever it was made of.
            total.failed = total.failed.max(1);
            tell(&format!("\nerror: {title}: {error:#}"));
            break;
        }
    }
    summary(&times, total);
    if args.no_cluster {
        tell("The run on a real cluster was left out, as --no-cluster asks.");
    }
    tell(&format!("test: {} passed, {} failed", total.passed, total.failed));
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn steps<'a>(args: &TestArgs, plan: &'a Plan) -> Vec<Step<'a>> {
    let mut steps: Vec<Step<'a>> = vec![
        ("format", Box::new(|found| check(found, &["fmt", "--all", "--check"]))),
        (
            "lints",
            Box::new(|found| {
                check(found, &["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])
            }),
        ),
        ("dependencies: bans, licences, sources", Box::new(deny)),
        ("what the tests need", Box::new(|_| requirements(plan))),
        (
            "unit, command line, control plane and web tests",
            Box::new(|found| tests(found, cargo(&["test", "--locked", "--workspace", "--no-fail-fast"]))),
        ),
    ];
    if !args.no_cluster {
        steps.push(("the bundle", Box::new(|_| bundle::make(&bundle::default_folder()?, &plan.packages, &DEBUG))));
        steps.push(("alert rules", Box::new(alert_rules)));
        steps.push(("a real cluster", Box::new(|found| ClusterTest::MainJob.on_a_cluster(found, None))));
    }
    steps
}

fn summary(times: &[(&str, Duration)], total: Tally) {
    tell("");
    for (title, time) in times {
        tell(&format!("{:>6.0} s  {title}", time.as_secs_f64()));
    }
    if total.failed > 0 {
        tell("        what comes after the failure was not run");
    }
    tell("");
}

/// Cargo in the workspace, with the deadline of a step.
pub fn cargo(args: &[&str]) -> Run {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Run::new(program, STEP_SECONDS).dir(&workspace()).args(args)
}

/// A step that is one check: it passes when the program does.
fn check(found: &mut Tally, args: &[&str]) -> Result<()> {
    let code = cargo(args).on_terminal()?;
    if code != 0 {
        bail!("`cargo {}` ended with exit code {code}", args.join(" "));
    }
    *found = Tally::ONE;
    Ok(())
}

/// A step whose checks are counted from what the test programs print.
///
/// # Errors
/// When one fails, or none was run.
pub fn tests(found: &mut Tally, run: Run) -> Result<()> {
    let code = run.lines(|line| {
        tell(line);
        found.count(line);
    })?;
    if code != 0 {
        bail!("tests failed: see above");
    }
    if found.passed == 0 {
        bail!("no test was run");
    }
    Ok(())
}

/// The checks of the dependencies that need no network beyond their sources.
fn deny(found: &mut Tally) -> Result<()> {
    let root = bundle::cache_folder()?.join("cargo-tools").join(format!("cargo-deny-{CARGO_DENY}"));
    let program = root.join("bin/cargo-deny");
    if !program.is_file() {
        say("building cargo-deny, once");
        let root = root.display().to_string();
        // A target folder of its own, which Cargo removes when it is done.
        let code = cargo(&["install", "--locked", "--quiet", "--version", CARGO_DENY, "--root", &root, "cargo-deny"])
            .without_env("CARGO_TARGET_DIR")
            .on_terminal()?;
        if code != 0 {
            bail!("cargo-deny cannot be installed");
        }
    }
    // It looks at every platform's dependencies, and the build fetches this one's only.
    cargo(&["fetch", "--locked", "--quiet"]).go().context("cannot fetch the dependencies' sources")?;
    let code = Run::new(&program, 300)
        .dir(&workspace())
        .args(["--offline", "--all-features", "check", "bans", "licenses", "sources"])
        .on_terminal()?;
    if code != 0 {
        bail!("cargo-deny found something: see above");
    }
    *found = Tally::ONE;
    Ok(())
}

/// PostgreSQL, and a control plane: an API server and etcd.
fn requirements(plan: &Plan) -> Result<()> {
    let log = bundle::cache_folder()?.join("apt.log");
    install::ensure(&install::missing(&plan.packages), &log)?;
    bundle::make_only(bundle::Only::ControlPlane).map(drop)
}

/// Prometheus' configuration, and what its alert rules make of series that are written down with them.
fn alert_rules(found: &mut Tally) -> Result<()> {
    let image = bundle::promtool()?;
    let mount = |folder: &str, name: &str| format!("{}:/files/{name}:ro", workspace().join(folder).display());
    for check in [
        // The file with the token is in the cluster only.
        ["check", "config", "--syntax-only", "prometheus/prometheus.yml"].as_slice(),
        &["test", "rules", "alerts/database.yaml", "alerts/web.yaml"],
    ] {
        let mut args = vec!["run".to_owned(), "--rm".into(), "--network".into(), "none".into(), "-w".into()];
        args.extend(["/files".into(), "-v".into(), mount("assets/prometheus", "prometheus"), "-v".into()]);
        args.extend([mount("tests/alerts", "alerts"), image.clone(), "promtool".into()]);
        let code = Run::new("docker", 120).args(args).args(check).on_terminal()?;
        if code != 0 {
            bail!("promtool {} found something: see above", check.join(" "));
        }
        found.passed += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_test_programs_print_is_counted() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test a::b ... ok",
            "test result: ok. 33 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.18s",
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ] {
            tally.count(line);
        }
        assert_eq!(tally, Tally { passed: 37, failed: 2 });
    }

    #[test]
    fn what_a_test_says_is_not_counted() {
        let mut tally = Tally::default();
        tally.count("the last line was: test result: ok. 5 passed; 0 failed");
        assert_eq!(tally, Tally::default());
    }
}
