//! `cargo xtask bench interrupt`: `stackctl up` is interrupted at random moments, and must go on when it is
//! run again.

use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use super::write;
use crate::bundle;
use crate::plan::Plan;
use crate::run::Run;
use crate::say::{say, tell};
use crate::stackctl::RELEASE;

/// An interrupted `up` that has not ended by then hangs.
const END: Duration = Duration::from_secs(60);
const UP_SECONDS: u64 = 1800;
/// How long what `up` does not wait for may take: images are at hand, volumes are made.
const SETTLED: Duration = Duration::from_secs(180);
/// What `stackctl` documents for it.
const INTERRUPTED: i32 = 130;

/// Where and how often.
#[derive(Debug, clap::Args)]
pub struct BenchInterruptArgs {
    /// The minikube profile to make and delete again, once for each interruption.
    #[arg(long, default_value = "stackctl-bench", value_name = "NAME")]
    profile: String,
    /// How many interruptions: the first up, uninterrupted, is cut into as many parts, one random moment in each.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    times: u32,
    /// The results as JSON [default: bench-interrupt.json in Cargo's target folder].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Do not ask before installing and starting things on this machine.
    #[arg(short, long)]
    yes: bool,
}

/// What came of one interruption; times in seconds.
#[derive(Debug, Serialize)]
struct Interruption {
    /// From the start of `up`.
    at: f64,
    /// From the signal to the end of the process.
    ended_after: f64,
    /// Its exit code; nothing when `up` had ended by itself before.
    exit_code: Option<i32>,
    /// What the next `up` took.
    again: f64,
    /// Whether everything was healthy within three minutes of that.
    ready: bool,
}

#[derive(Debug, Serialize)]
struct InterruptFigures {
    /// Of an `up` from nothing that nobody interrupts, in seconds.
    uninterrupted: f64,
    interruptions: Vec<Interruption>,
}

/// Interrupts, prints a line each and writes the results.
///
/// # Errors
/// When one did not end as documented, or the next `up` did not end with everything healthy.
pub fn bench(args: &BenchInterruptArgs) -> Result<()> {
    let plan = Plan::survey(true)?;
    plan.agree(args.yes, "make a minikube profile for each interruption and delete it again")?;
    let folder = bundle::default_folder()?;
    bundle::make(&folder, &plan.packages, &RELEASE)?;
    let stackctl = InterruptedStackctl { program: RELEASE.build()?, bundle: folder, profile: args.profile.clone() };

    stackctl.delete()?;
    say("stackctl up, from nothing, uninterrupted");
    let mut results = InterruptFigures { uninterrupted: stackctl.up()?, interruptions: Vec::new() };
    tell(&format!("uninterrupted: {:.1} s", results.uninterrupted));
    for part in 0..args.times {
        stackctl.delete()?;
        let share = (f64::from(part) + random()) / f64::from(args.times);
        let outcome = stackctl.interrupted(results.uninterrupted * share)?;
        tell(&format!(
            "interrupted after {:>5.1} s: ended after {:.1} s with exit code {}; up again: {:.1} s, {}",
            outcome.at,
            outcome.ended_after,
            outcome.exit_code.map_or_else(|| "- (it was done)".to_owned(), |code| code.to_string()),
            outcome.again,
            if outcome.ready { "everything healthy" } else { "NOT healthy" }
        ));
        results.interruptions.push(outcome);
    }
    stackctl.delete()?;
    let file = write(&results, args.out.as_deref(), "bench-interrupt")?;
    say(&format!("written to {}", file.display()));
    let good = |each: &&Interruption| each.ready && each.exit_code.is_none_or(|code| code == INTERRUPTED);
    let (good, all) = (results.interruptions.iter().filter(good).count(), results.interruptions.len());
    tell(&format!("{good} of {all} ended as they should"));
    if good < all { bail!("{} did not", all - good) } else { Ok(()) }
}

/// A number in [0, 1) that differs from call to call: the keys of the standard library's hash are random.
fn random() -> f64 {
    f64::from(u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

/// The program with the profile that it works on. Deleted when dropped.
struct InterruptedStackctl {
    program: PathBuf,
    bundle: PathBuf,
    profile: String,
}

impl InterruptedStackctl {
    fn args<'a>(&'a self, command: &'a [&str]) -> impl Iterator<Item = &'a str> {
        command.iter().copied().chain(["--profile", &self.profile])
    }

    fn up_args(&self) -> Result<Vec<&str>> {
        let bundle = path(&self.bundle)?;
        Ok(self.args(&["up"]).chain(["--bundle", bundle]).collect())
    }

    fn up(&self) -> Result<f64> {
        let start = Instant::now();
        Run::new(&self.program, UP_SECONDS).args(self.up_args()?).go()?;
        Ok(start.elapsed().as_secs_f64())
    }

    fn delete(&self) -> Result<()> {
        Run::new(&self.program, UP_SECONDS).args(self.args(&["down", "--cluster", "--yes"])).go()
    }

    /// Starts `up` on an empty machine, interrupts it `at` seconds later, and runs it again.
    fn interrupted(&self, at: f64) -> Result<Interruption> {
        let mut up = Command::new(&self.program)
            .args(self.up_args()?)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start stackctl")?;
        std::thread::sleep(Duration::from_secs_f64(at));
        let by_itself = up.try_wait()?;
        let signal = Instant::now();
        let exit_code = if by_itself.is_some() { None } else { Some(interrupt(&mut up)?) };
        let ended_after = signal.elapsed().as_secs_f64();
        let again = self.up()?;
        Ok(Interruption { at, ended_after, exit_code, again, ready: self.gets_healthy() })
    }

    /// Whether every part gets healthy: `up` does not wait for monitoring.
    fn gets_healthy(&self) -> bool {
        let deadline = Instant::now() + SETTLED;
        while Instant::now() < deadline {
            if Run::new(&self.program, 60).args(self.args(&["status"])).works() {
                return true;
            }
            std::thread::sleep(Duration::from_secs(2));
        }
        false
    }
}

/// Sends it what Ctrl-C sends, and returns its exit code.
fn interrupt(process: &mut Child) -> Result<i32> {
    Run::new("kill", 5).args(["-INT", &process.id().to_string()]).go()?;
    let deadline = Instant::now() + END;
    while Instant::now() < deadline {
        if let Some(status) = process.try_wait()? {
            return Ok(status.code().unwrap_or(-1));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    process.kill()?;
    process.wait()?;
    bail!("stackctl up did not end within {} s after SIGINT", END.as_secs());
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

impl Drop for InterruptedStackctl {
    fn drop(&mut self) {
        // After a success there is none left; after a failure that one is told, not this.
        let _ = self.delete();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_moments_differ_and_stay_in_their_part() {
        let all: Vec<f64> = (0..20).map(|_| random()).collect();
        assert!(all.iter().all(|number| (0.0..=1.0).contains(number)), "{all:?}");
        assert!(all.iter().any(|number| (number - all[0]).abs() > 1e-6), "{all:?}");
    }

    #[test]
    fn an_interrupted_process_tells_its_exit_code() {
        let script = "trap 'exit 130' INT; while :; do sleep 0.05; done";
        // A shell cannot trap what was ignored when it started, as it is in jobs that a script puts into the background.
        let args = ["--default-signal=INT", "bash", "-c", script];
        let mut child = Command::new("env").args(args).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(interrupt(&mut child).unwrap(), INTERRUPTED);
    }
}
