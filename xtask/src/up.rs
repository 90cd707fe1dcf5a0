//! `cargo xtask up`: from a bare machine to a running stack.

use std::time::Instant;

use anyhow::Result;

use crate::bundle;
use crate::engine::{self, install};
use crate::plan::Plan;
use crate::run::Run;
use crate::say::{say, tell};
use crate::stackctl::RELEASE;

/// `stackctl up` has a deadline of its own; this one only ends what hangs.
const UP_SECONDS: u64 = 7200;

/// How to bring the stack up.
#[derive(Debug, clap::Args)]
pub struct UpArgs {
    /// Do not ask before installing and starting things on this machine.
    #[arg(short, long)]
    yes: bool,
    /// Build everything from sources even where a container registry answers.
    #[arg(long)]
    from_sources: bool,
    /// Arguments for `stackctl up`, e.g. -- --nodes 3.
    #[arg(last = true, value_name = "ARGS")]
    stackctl: Vec<String>,
}

/// Does it, and returns the exit code of `stackctl up`.
///
/// # Errors
/// When something of it fails, or when it would have to ask and there is no terminal.
pub fn up(args: &UpArgs) -> Result<i32> {
    let start = Instant::now();
    let plan = Plan::survey(args.from_sources)?;
    plan.agree(args.yes, "create a minikube cluster and bring the stack up in it (stackctl up)")?;
    let mut command = vec!["up".to_owned()];
    if plan.bundle.is_some() {
        let folder = bundle::default_folder()?;
        bundle::make(&folder, &plan.packages, &RELEASE)?;
        command.extend(["--bundle".to_owned(), folder.display().to_string()]);
    } else {
        let store = bundle::store()?;
        install::ensure(&plan.packages, &store.root().join("apt.log"))?;
        engine::ensure(&store)?;
    }
    command.extend(args.stackctl.iter().cloned());
    let stackctl = RELEASE.build()?;
    say(&format!("stackctl {}", command.join(" ")));
    let code = Run::new(&stackctl, UP_SECONDS).args(&command).on_terminal()?;
    let seconds = start.elapsed().as_secs();
    if code == 0 {
        say(&format!("from start to running: {} min {:02} s", seconds / 60, seconds % 60));
        if !is_in_path("stackctl") {
            tell(&format!("to have it in PATH: install -D {} ~/.local/bin/stackctl", stackctl.display()));
        }
    }
    Ok(code)
}

fn is_in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
