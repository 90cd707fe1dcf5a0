//! Programs that end with the one that started them.
//!
//! Between the two stands a shell that waits for its input to close, which it does however the starting
//! program ends: in order, by Ctrl-C, or killed. It has a process group of its own, so that the terminal's
//! Ctrl-C reaches the kept program through it and not before what uses it.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

/// Asks the program to end with its signal, kills what is left of it after ten seconds, removes its folder.
const SCRIPT: &str = r#"
log=$1 signal=$2 folder=$3; shift 3
exec 3>&1
if [ -n "$log" ]; then exec >>"$log" 2>&1; else exec >&2; fi
"$@" </dev/null 3>&- & program=$!
echo $program >&3
exec 3>&-
read -r _
exec >/dev/null 2>&1
kill -s "$signal" $program
( sleep 10; kill -s KILL $program ) & late=$!
wait $program
kill $late
[ -z "$folder" ] || rm -rf "$folder"
kill -s KILL 0
"#;

/// A program that runs until the value is dropped, or until this process ends.
#[derive(Debug)]
pub struct Keeper {
    shell: Child,
    /// The program's process.
    pub pid: u32,
    log: Option<PathBuf>,
}

/// How a program is asked to end.
#[derive(Debug, Clone, Copy)]
pub enum Signal {
    /// Most programs' word for "end in order".
    Term,
    /// PostgreSQL's for "end now, in order".
    Int,
}

impl Keeper {
    /// Starts a program; its output goes to the end of `log`, or to this program's standard error, and `folder`
    /// is removed after it has ended. Arguments, variables and working folder are the command's; its other
    /// settings are not heeded.
    ///
    /// # Errors
    /// When no shell can be started. That the program cannot be is told by its log.
    pub fn start(command: &Command, log: Option<&Path>, signal: Signal, folder: Option<&Path>) -> Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT, "sh"]).arg(log.unwrap_or(Path::new("")));
        shell.arg(match signal {
            Signal::Term => "TERM",
            Signal::Int => "INT",
        });
        shell.arg(folder.unwrap_or(Path::new(""))).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell.current_dir(command.get_current_dir().unwrap_or(Path::new("/")));
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut shell = shell.spawn().context("cannot start a shell")?;
        let output = shell.stdout.take().context("the shell has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("the shell tells nothing")?;
        let pid = line.trim().parse().with_context(|| format!("the shell tells no process: {line:?}"))?;
        Ok(Self { shell, pid, log: log.map(Path::to_owned) })
    }

    /// Whether the program has not ended.
    pub fn is_running(&self) -> bool {
        // One that has ended is kept by the kernel until the shell asks how.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    /// The last lines of what it wrote into its log, for an error.
    pub fn tail(&self) -> String {
        let text = self.log.as_ref().and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::until;

    fn is_gone(pid: u32) -> bool {
        !Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn a_kept_program_ends_with_its_value_and_its_folder_goes() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own");
        std::fs::create_dir(&own).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo started $WHO; exec sleep 60"]).env("WHO", "here");
        let keeper = Keeper::start(&command, Some(&folder.path().join("log")), Signal::Term, Some(&own)).unwrap();
        until("its output", Duration::from_secs(5), || keeper.tail().contains("started here")).unwrap();
        let pid = keeper.pid;
        assert!(keeper.is_running());
        drop(keeper);
        assert!(is_gone(pid) && !own.exists());
    }

    #[test]
    fn a_program_that_has_ended_does_not_run() {
        let keeper = Keeper::start(&Command::new("true"), None, Signal::Term, None).unwrap();
        until("its end", Duration::from_secs(5), || !keeper.is_running()).unwrap();
    }

    #[test]
    fn a_kept_program_ends_when_its_starter_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        // The starter: a shell that holds the other end of the keeper's input.
        let keeper = format!("setsid sh -c '{SCRIPT}' sh {} TERM '' sleep 60", log.display());
        let mut starter = Command::new("sh");
        starter.args(["-c", &format!("sleep 60 | {keeper}")]);
        let mut starter = starter.stdout(Stdio::piped()).process_group(0).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(starter.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid: u32 = line.trim().parse().unwrap();
        assert!(!is_gone(pid));
        let group = format!("-{}", starter.id());
        assert!(Command::new("kill").args(["-s", "KILL", "--", &group]).status().unwrap().success());
        starter.wait().unwrap();
        until("it ends", Duration::from_secs(5), || is_gone(pid)).unwrap();
    }
}
