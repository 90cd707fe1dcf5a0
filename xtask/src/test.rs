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
use crate::tally::{Tally, cargo, tests};
use crate::{bundle, cargo_tool, workspace};

/// Its rules are part of the check.
const CARGO_DENY: &str = "0.20.2";

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
            "unit, command line, control plane, web and WAL tests",
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

/// A step that is one check: it passes when the program does.
fn check(found: &mut Tally, args: &[&str]) -> Result<()> {
    let code = cargo(args).on_terminal()?;
    if code != 0 {
        bail!("`cargo {}` ended with exit code {code}", args.join(" "));
    }
    *found = Tally::ONE;
    Ok(())
}

/// The checks of the dependencies that need no network beyond their sources.
fn deny(found: &mut Tally) -> Result<()> {
    let program = cargo_tool::program("cargo-deny", CARGO_DENY)?;
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

/// PostgreSQL; a control plane: an API server and etcd; an S3 store, and barman; what judges pages.
fn requirements(plan: &Plan) -> Result<()> {
    let log = bundle::cache_folder()?.join("apt.log");
    install::ensure(&install::missing(&plan.packages), &log)?;
    bundle::make_only(bundle::Only::ControlPlane)?;
    bundle::make_only(bundle::Only::WalPrograms)?;
    bundle::make_only(bundle::Only::Axe).map(drop)
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
