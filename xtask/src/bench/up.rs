//! `cargo xtask bench up`: the same stack on equal empty clusters, by stackctl, by hand with kubectl, by helm.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use super::by_hand::{Helm, Kubectl, Measured};
use super::empty::EmptyProfile;
use super::write;
use crate::bundle;
use crate::plan::Plan;
use crate::run::Run;
use crate::say::{say, tell};
use crate::stackctl::RELEASE;

const UP_SECONDS: u64 = 1800;

/// Where and how to measure.
#[derive(Debug, clap::Args)]
pub struct BenchUpArgs {
    /// The minikube profile to make and delete again, three times.
    #[arg(long, default_value = "stackctl-bench", value_name = "NAME")]
    profile: String,
    /// The results as JSON [default: bench-up.json in Cargo's target folder].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Do not ask before installing and starting things on this machine.
    #[arg(short, long)]
    yes: bool,
}

/// All that was measured; times in seconds.
#[derive(Debug, Default, Serialize)]
struct UpTimes {
    /// `minikube start` alone: each of the two empty clusters that the others worked on.
    minikube_start: Vec<f64>,
    stackctl: StackctlTimes,
    kubectl: Measured,
    helm: Measured,
}

#[derive(Debug, Default, Serialize)]
struct StackctlTimes {
    /// From nothing, the cluster too.
    total: f64,
    /// From the moment when the cluster was there.
    after_cluster: f64,
    /// Each phase; some run side by side.
    phases: Vec<(String, f64)>,
    again: f64,
    again_requests: Option<u64>,
}

/// Measures, prints a table and writes the results.
///
/// # Errors
/// When something of it fails; the profile is deleted all the same.
pub fn bench(args: &BenchUpArgs) -> Result<()> {
    let plan = Plan::survey(true)?;
    plan.agree(args.yes, "make a minikube profile three times and delete it again")?;
    let folder = bundle::default_folder()?;
    bundle::make(&folder, &plan.packages, &RELEASE)?;
    bundle::make_only(bundle::Only::ControlPlane)?;
    let program = RELEASE.build()?;
    let profile = EmptyProfile::new(&args.profile, &folder)?;
    let parts = super::by_hand::Parts::render(&program, &folder)?;

    let mut results = UpTimes::default();
    profile.delete()?;
    say("stackctl up, from nothing");
    results.stackctl = of_stackctl(&program, &folder, &args.profile)?;
    profile.delete()?;

    say("minikube start, then kubectl by hand");
    results.minikube_start.push(profile.start()?);
    profile.prepare(&parts.web_image)?;
    results.kubectl = Kubectl::new(&args.profile)?.measure(&parts)?;
    profile.delete()?;

    say("minikube start, then helm");
    results.minikube_start.push(profile.start()?);
    profile.prepare(&parts.web_image)?;
    results.helm = Helm::new(&args.profile)?.measure(&parts)?;
    profile.delete()?;

    print(&results);
    let file = write(&results, args.out.as_deref(), "bench-up")?;
    say(&format!("written to {}", file.display()));
    Ok(())
}

fn of_stackctl(program: &Path, bundle: &Path, profile: &str) -> Result<StackctlTimes> {
    let up = || -> Result<(f64, Vec<Value>)> {
        let start = Instant::now();
        let text = Run::new(program, UP_SECONDS)
            .args(["up", "-o", "json", "--without", "backup", "--profile", profile, "--bundle"])
            .args([bundle])
            .output()?;
        let events = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        Ok((start.elapsed().as_secs_f64(), events.context("an event is not JSON")?))
    };
    let (total, events) = up()?;
    let phases = phases(&events);
    let seconds = |id: &str| phases.iter().find(|(phase, _)| phase == id).map_or(0.0, |(_, seconds)| *seconds);
    let after_cluster = total - seconds("preflight") - seconds("cluster");
    let (again, events) = up()?;
    Ok(StackctlTimes { total, after_cluster, phases, again, again_requests: requests(&events) })
}

fn phases(events: &[Value]) -> Vec<(String, f64)> {
    let done = events.iter().filter(|event| event["event"] == "phase_done");
    done.filter_map(|event| Some((event["phase"].as_str()?.to_owned(), event["seconds"].as_f64()?))).collect()
}

/// What the last event tells, if it does.
fn requests(events: &[Value]) -> Option<u64> {
    events.iter().rfind(|event| event["event"] == "finished")?["requests"].as_u64()
}

fn print(results: &UpTimes) {
    let (stackctl, kubectl, helm) = (&results.stackctl, &results.kubectl, &results.helm);
    let count = |requests: Option<u64>| requests.map_or_else(|| "-".to_owned(), |requests| requests.to_string());
    tell("");
    for (phase, seconds) in &stackctl.phases {
        tell(&format!("stackctl up: {phase:<12} {seconds:>7.1} s"));
    }
    let starts: Vec<String> = results.minikube_start.iter().map(|seconds| format!("{seconds:.1} s")).collect();
    tell(&format!("minikube start alone:     {}", starts.join(", ")));
    tell("");
    tell("on an empty cluster            stackctl   kubectl      helm   stackctl/kubectl   stackctl/helm");
    row("everything ready, s", stackctl.after_cluster, kubectl.ready, helm.ready);
    row("the tool has returned, s", stackctl.after_cluster, kubectl.returned, helm.returned);
    row("again, nothing to change, s", stackctl.again, kubectl.again, helm.again);
    tell(&format!(
        "{:<28} {:>10} {:>9} {:>9}",
        "requests of that",
        count(stackctl.again_requests),
        count(kubectl.again_requests),
        count(helm.again_requests)
    ));
}

fn row(what: &str, stackctl: f64, kubectl: f64, helm: f64) {
    let (by_hand, by_helm) = (stackctl / kubectl, stackctl / helm);
    tell(&format!("{what:<28} {stackctl:>10.1} {kubectl:>9.1} {helm:>9.1} {by_hand:>18.2} {by_helm:>15.2}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn phases_and_requests_are_read_from_the_events() {
        let events = [
            json!({"event": "phase_started", "phase": "cluster", "title": "x"}),
            json!({"event": "phase_done", "phase": "cluster", "seconds": 61.5}),
            json!({"event": "phase_skipped", "phase": "web"}),
            json!({"event": "finished", "requests": 12}),
        ];
        assert_eq!(phases(&events), vec![("cluster".to_owned(), 61.5)]);
        assert_eq!(requests(&events), Some(12));
        assert_eq!(requests(&events[..2]), None);
    }
}
