//! The container engine of this machine: whether one answers, and starting one.

pub mod install;
pub mod runtime;
mod stale;

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::bundle::store::Store;
use crate::run::Run;
use crate::say::say;
use crate::workspace;

const START: Duration = Duration::from_secs(90);
/// The name under which the engine knows the thin runtime.
const LEAN: &str = "lean";

/// What was found out about the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It answers; the name of its default runtime.
    Running(String),
    /// It is installed, but does not answer.
    Stopped,
    /// It is not installed.
    Absent,
}

/// Looks for the engine.
pub fn state() -> State {
    if let Ok(runtime) = Run::new("docker", 15).args(["info", "-f", "{{.DefaultRuntime}}"]).output()
        && !runtime.is_empty()
    {
        return State::Running(runtime);
    }
    if ["docker", "dockerd"].iter().all(|program| Run::new(program, 15).args(["--version"]).works()) {
        return State::Stopped;
    }
    State::Absent
}

/// Whether a container registry answers: the one of the operator's pinned image.
pub fn registry_answers(state: &State) -> bool {
    let Some(image) = pinned_image() else { return false };
    if matches!(state, State::Running(_)) {
        return Run::new("docker", 20).args(["manifest", "inspect", &image]).works();
    }
    let host = image.split('/').next().unwrap_or_default();
    let asked = Run::new("curl", 15)
        .args(["-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", &format!("https://{host}/v2/")])
        .output();
    // A registry asks for credentials; what stands in its place says something else.
    asked.is_ok_and(|code| ["200", "401"].contains(&code.as_str()))
}

fn pinned_image() -> Option<String> {
    let text = fs::read_to_string(workspace().join("assets/components.toml")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("image = \""))?;
    Some(line.trim_end_matches('"').to_owned())
}

/// Starts the engine and waits until it answers. Where the machine withholds what containers ask
/// for, it gets the thin runtime.
///
/// # Errors
/// When it cannot be started, or one that runs cannot be used.
pub fn ensure(store: &Store) -> Result<()> {
    let lean = runtime::needed()?;
    match state() {
        State::Running(runtime) if lean && runtime == "runc" => bail!(
            "the engine that runs here uses runc, which cannot start privileged containers on this machine \
             (CAP_SYS_RESOURCE is withheld). Stop it and run this again, or start it with \
             --add-runtime {LEAN}={} --default-runtime {LEAN}",
            place_runtime(store)?.display()
        ),
        State::Running(_) => return Ok(()),
        State::Absent | State::Stopped => {}
    }
    say("starting the container engine");
    let log = store.root().join("dockerd.log");
    if Path::new("/run/systemd/system").exists() && !lean {
        Run::new("systemctl", 60).args(["start", "docker"]).go()?;
    } else {
        let runtime = if lean { Some(place_runtime(store)?) } else { None };
        start_by_hand(&log, runtime.as_deref())?;
    }
    let deadline = Instant::now() + START;
    while !matches!(state(), State::Running(_)) {
        if Instant::now() > deadline {
            bail!("the engine does not answer after {} s; its log: {}", START.as_secs(), log.display());
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    Ok(())
}

/// Puts the runtime where the engine finds it for as long as it runs.
fn place_runtime(store: &Store) -> Result<PathBuf> {
    let built = runtime::build(store)?;
    let folder = store.root().join("bin");
    fs::create_dir_all(&folder)?;
    let (place, new) = (folder.join(runtime::NAME), folder.join(".lean-runtime"));
    fs::copy(&built, &new)?;
    fs::rename(&new, &place).context("cannot place the runtime")?;
    Ok(place)
}

/// Starts the engine in a process group of its own: it outlives this program and its terminal.
fn start_by_hand(log: &Path, runtime: Option<&Path>) -> Result<()> {
    stale::remove();
    let output = OpenOptions::new().create(true).append(true).open(log)?;
    let mut command = Command::new("dockerd");
    command.current_dir("/").stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
    if let Some(path) = runtime {
        command.args(["--add-runtime", &format!("{LEAN}={}", path.display()), "--default-runtime", LEAN]);
    }
    command.spawn().context("cannot start dockerd").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_to_ask_is_that_of_a_pinned_image() {
        let image = pinned_image().unwrap();
        let (host, rest) = image.split_once('/').unwrap();
        assert!(host.contains('.') && rest.contains(':'), "{image}");
    }
}
