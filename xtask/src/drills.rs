//! `cargo xtask drills`: every failover drill, several times, on clusters of one and of three nodes.

mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::bundle;
use crate::plan::Plan;
use crate::run::Run;
use crate::say::{say, tell};
use crate::stackctl::RELEASE;
use crate::target_folder;

/// The deadline of `stackctl up` and `down`, in seconds: they have their own; this one only ends what hangs.
const UP_SECONDS: u64 = 1800;
/// The deadline of a drill, in seconds: a run of any scenario is over by then.
const DRILL_SECONDS: u64 = 900;
/// The time that the stack is given to be healthy before a drill; then it is the drill that says what is amiss.
const SETTLE: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The exit code of a drill whose verdict is "fail": it has a report all the same.
const VERDICT: i32 = 4;

/// The drills to run, and the clusters to run them on.
#[derive(Debug, clap::Args)]
pub struct DrillsArgs {
    /// How often each scenario is run.
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: u32,
    /// Only these scenarios; can be given several times [default: all that the cluster allows].
    #[arg(long, value_name = "ID")]
    scenario: Vec<String>,
    /// Only clusters of so many nodes; can be given several times [default: 1 and 3].
    #[arg(long, value_name = "N")]
    nodes: Vec<u32>,
    /// The minikube profile to make and delete again.
    #[arg(long, default_value = "stackctl-drills", value_name = "NAME")]
    profile: String,
    /// The reports as JSON [default: drills.json in Cargo's target folder].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Run nothing: print the table of these reports, e.g. of `stackctl drill-history -o json`; can be given several
    /// times, for one table of them all.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["runs", "scenario", "nodes", "out"])]
    from: Vec<PathBuf>,
    /// Do not ask before installing and starting things on this machine.
    #[arg(short, long)]
    yes: bool,
}

/// Runs the drills, writes the reports, and prints them as a table in Markdown. Fails if a drill does.
///
/// # Errors
/// When there is no cluster to run them on; the profile is deleted all the same.
pub fn drills(args: &DrillsArgs) -> Result<ExitCode> {
    if !args.from.is_empty() {
        let mut reports = Vec::new();
        for file in &args.from {
            reports.extend(read(file)?);
        }
        tell(&table::markdown(&reports));
        return Ok(ExitCode::SUCCESS);
    }
    let plan = Plan::survey(true)?;
    plan.agree(args.yes, "make minikube profiles, break what runs in them on purpose, and delete them again")?;
    let folder = bundle::default_folder()?;
    bundle::make(&folder, &plan.packages, &RELEASE)?;
    let runner = DrillRunner { program: RELEASE.build()?, profile: args.profile.clone(), bundle: folder };
    let file = args.out.clone().unwrap_or_else(|| target_folder().join("drills.json"));

    let mut reports = Vec::new();
    let clusters = if args.nodes.is_empty() { vec![1, 3] } else { args.nodes.clone() };
    for nodes in clusters {
        let ran = runner.cluster(nodes, args, &mut reports, &file);
        runner.delete()?;
        ran?;
    }
    tell(&table::markdown(&reports));
    for why in reports.iter().flat_map(table::runs).filter_map(|run| run["no_report"].as_str()) {
        tell(why);
    }
    say(&format!("written to {}", file.display()));
    let passed = reports.iter().flat_map(table::runs).all(|run| run["pass"] == true);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The program, and the cluster that it works on.
struct DrillRunner {
    program: PathBuf,
    profile: String,
    bundle: PathBuf,
}

impl DrillRunner {
    fn run(&self, seconds: u64) -> Run {
        Run::new(&self.program, seconds).env("STACKCTL_PROFILE", &self.profile).env("STACKCTL_BUNDLE", &self.bundle)
    }

    fn delete(&self) -> Result<()> {
        self.run(UP_SECONDS).args(["down", "--cluster", "--yes"]).go()
    }

    /// Makes a new cluster of so many nodes with the stack in it.
    fn make(&self, nodes: u32) -> Result<()> {
        say(&format!("a cluster of {nodes} {}", if nodes == 1 { "node" } else { "nodes" }));
        self.delete()?;
        self.run(UP_SECONDS).args(["up", "--nodes", &nodes.to_string()]).go()
    }

    /// Runs the scenarios that a cluster of so many nodes allows, the negative control first: a checker that finds
    /// nothing would make the others worthless.
    fn cluster(&self, nodes: u32, args: &DrillsArgs, reports: &mut Vec<Value>, file: &Path) -> Result<()> {
        self.make(nodes)?;
        let list = self.run(60).args(["failover-drill", "--list"]).output()?;
        let mut scenarios = scenarios(&list, nodes);
        scenarios.sort_by_key(|id| *id != "control");
        scenarios.retain(|id| {
            args.scenario.is_empty() || *id == "control" || args.scenario.iter().any(|wanted| wanted == id)
        });
        // In rounds: a run of a scenario does not follow another of the same, which may still have its effect (a container
        // that is killed twice in ten minutes is restarted later), and whatever else changes meanwhile meets all alike.
        for round in 1..=args.runs {
            for id in scenarios.iter().filter(|id| round == 1 || **id != "control") {
                say(&format!("{id}, round {round} of {}", args.runs));
                match self.drill(id)? {
                    Ok(report) => reports.push(report),
                    Err(why) => {
                        say(&why);
                        reports.push(table::without_report(id, nodes, &why));
                        // It may have left the stack as no drill begins with: the others are to be measured all the same.
                        self.make(nodes)?;
                    }
                }
                // Written each time: what was measured is kept, whatever comes after it.
                write(reports, file)?;
            }
        }
        Ok(())
    }

    /// Gives the stack time to be as a drill begins with: after an outage of the API server the operator, for one, takes
    /// a while to see the instances again, and a drill refuses to begin.
    fn settle(&self) {
        let until = Instant::now() + SETTLE;
        while Instant::now() < until && !self.run(60).args(["status"]).works() {
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Runs one drill. Returns its report, or why there is none.
    fn drill(&self, id: &str) -> Result<Result<Value, String>> {
        self.settle();
        let which = if id == "control" { vec!["--control"] } else { vec![id] };
        let run = self.run(DRILL_SECONDS).args(["failover-drill", "--yes", "-o", "json"]).args(which);
        let (mut report, mut error) = (None, None);
        let code = run.lines(|line| {
            let value: Value = serde_json::from_str(line).unwrap_or_default();
            if value["schema"] == "stackctl/drill-report" {
                report = Some(value);
            } else if value["event"] == "error" {
                error = value["message"].as_str().map(str::to_owned);
            }
        })?;
        Ok(match report {
            Some(report) if code == 0 || code == VERDICT => Ok(report),
            _ => Err(format!(
                "the drill {id} gave no report, stackctl ended with exit code {code}: {}",
                error.as_deref().unwrap_or("no reason was given")
            )),
        })
    }
}

/// The ids in what `failover-drill --list` prints, of those that run on a cluster of so many nodes. On several
/// nodes only those that need them, and the default: the others have been run on one.
fn scenarios(list: &str, nodes: u32) -> Vec<&str> {
    let mut found = Vec::new();
    let mut id = "";
    for line in list.lines() {
        if !line.starts_with(' ') && !line.is_empty() {
            id = line;
        }
        if let Some(needs) = line.trim().strip_prefix("runs on ") {
            let several = needs.contains("3 nodes");
            // The clusters that this makes have no zones.
            let fits = !needs.contains("zones");
            if fits && (several == (nodes >= 3) || nodes >= 3 && matches!(id, "primary-delete" | "control")) {
                found.push(id);
            }
        }
    }
    found
}

/// Reads the reports in a file: a list of them, as `--out` writes it, or one, as `stackctl failover-drill --report` does.
fn read(file: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    match serde_json::from_str(&text).with_context(|| format!("{} is no JSON", file.display()))? {
        Value::Array(reports) => Ok(reports),
        report if report["runs"].is_array() => Ok(vec![report]),
        _ => bail!("{} holds no report of a drill", file.display()),
    }
}

fn write(reports: &[Value], file: &Path) -> Result<()> {
    let mut text = serde_json::to_string_pretty(reports)?;
    text.push('\n');
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_chosen_by_what_they_need() {
        let list = "primary-delete\n  does    a\n  runs on any cluster\n\nfreeze\n  runs on any cluster\n\n\
                    node-kill\n  does b\n  runs on minikube with 3 nodes or more\n\ncontrol\n  runs on any cluster\n";
        assert_eq!(scenarios(list, 1), ["primary-delete", "freeze", "control"]);
        assert_eq!(scenarios(list, 3), ["primary-delete", "node-kill", "control"]);
    }
}
