//! Starting other programs: output kept in a log, its tail in the error, always a deadline.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Lines of a failed program's output that are shown.
const TAIL: usize = 25;
/// What a program is given to end by itself after it was asked to.
const GRACE: Duration = Duration::from_secs(5);

/// A program to run, with its deadline.
#[derive(Debug)]
pub struct Run {
    command: Command,
    shown: String,
    timeout: Duration,
    log: Option<PathBuf>,
}

impl Run {
    /// `program` with the given deadline in seconds.
    pub fn new(program: impl AsRef<OsStr>, timeout_seconds: u64) -> Self {
        let shown = program.as_ref().to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self { command, shown, timeout: Duration::from_secs(timeout_seconds), log: None }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        for arg in args {
            self.shown.push(' ');
            self.shown.push_str(&arg.as_ref().to_string_lossy());
            self.command.arg(arg);
        }
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Takes an environment variable away.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// The folder to run in.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Reads standard input from a file.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn stdin(mut self, path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        self.command.stdin(file);
        Ok(self)
    }

    /// Appends everything that the program writes to this file.
    #[must_use]
    pub fn log(mut self, path: &Path) -> Self {
        self.log = Some(path.to_owned());
        self
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// When it cannot be started, fails, or is not done in time; with the end of its output.
    pub fn go(mut self) -> Result<()> {
        let scratch;
        let log = match &self.log {
            Some(path) => path.clone(),
            None => {
                scratch = tempfile::NamedTempFile::new().context("cannot make a log file")?;
                scratch.path().to_owned()
            }
        };
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        writeln!(file, "$ {}", self.shown).context("cannot write the log")?;
        self.command.stdout(file.try_clone()?).stderr(file);
        let (status, late) = self.finish()?;
        if status.success() && !late {
            return Ok(());
        }
        let kept = self.log.as_ref().map(|path| format!("; all of it: {}", path.display()));
        bail!(
            "`{}` {}{}\n{}",
            self.shown,
            outcome(status, late, self.timeout),
            kept.unwrap_or_default(),
            tail(&fs::read(&log).unwrap_or_default())
        );
    }

    /// Runs to the end and returns what it wrote to standard output, without the last newline.
    ///
    /// # Errors
    /// As [`Run::go`].
    pub fn output(mut self) -> Result<String> {
        let (out, err) = (tempfile::tempfile()?, tempfile::tempfile()?);
        self.command.stdout(out.try_clone()?).stderr(err.try_clone()?);
        let (status, late) = self.finish()?;
        if !status.success() || late {
            bail!("`{}` {}\n{}", self.shown, outcome(status, late, self.timeout), tail(&contents(err)?));
        }
        let text = String::from_utf8(contents(out)?).context("its output is not UTF-8")?;
        Ok(text.trim_end_matches('\n').to_owned())
    }

    /// The output of [`Run::output`], but however it ends; nothing when it cannot be run.
    pub fn any_output(mut self) -> Option<String> {
        let out = tempfile::tempfile().ok()?;
        self.command.stdout(out.try_clone().ok()?).stderr(Stdio::null());
        self.finish().ok()?;
        String::from_utf8(contents(out).ok()?).ok()
    }

    /// Runs on the terminal that this program has, and returns its exit code.
    ///
    /// # Errors
    /// When it cannot be started, was killed, or is not done in time.
    pub fn on_terminal(mut self) -> Result<i32> {
        self.command.stdin(Stdio::inherit());
        let (status, late) = self.finish()?;
        match status.code() {
            Some(code) if !late => Ok(code),
            _ => bail!("`{}` {}", self.shown, outcome(status, late, self.timeout)),
        }
    }

    /// Runs it, gives each line of its standard output to `on_line` as it comes, and returns its exit code.
    ///
    /// # Errors
    /// As [`Run::on_terminal`].
    pub fn lines(mut self, mut on_line: impl FnMut(&str)) -> Result<i32> {
        self.command.stdout(Stdio::piped());
        let mut child = self.command.spawn().with_context(|| format!("cannot start `{}`", self.shown))?;
        let output = child.stdout.take().context("its output cannot be read")?;
        let timeout = self.timeout;
        let (status, late) = std::thread::scope(|scope| {
            let waiter = scope.spawn(move || wait(&mut child, timeout));
            for line in std::io::BufReader::new(output).split(b'\n').map_while(std::io::Result::ok) {
                on_line(&String::from_utf8_lossy(&line));
            }
            waiter.join().unwrap_or_else(|_| bail!("waiting for it panicked"))
        })?;
        match status.code() {
            Some(code) if !late => Ok(code),
            _ => bail!("`{}` {}", self.shown, outcome(status, late, timeout)),
        }
    }

    /// True when the program can be run and ends well.
    pub fn works(self) -> bool {
        self.output().is_ok()
    }

    fn finish(&mut self) -> Result<(ExitStatus, bool)> {
        let mut child = self.command.spawn().with_context(|| format!("cannot start `{}`", self.shown))?;
        wait(&mut child, self.timeout)
    }
}

/// The exit status, and whether the deadline had passed.
fn wait(child: &mut Child, timeout: Duration) -> Result<(ExitStatus, bool)> {
    let deadline = Instant::now() + timeout;
    let mut pause = Duration::from_millis(2);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok((status, false));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
    // Asked first, so that it can end what it has started itself.
    let _ = Command::new("kill").arg(child.id().to_string()).status();
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok((status, true));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill()?;
    Ok((child.wait()?, true))
}

fn outcome(status: ExitStatus, late: bool, timeout: Duration) -> String {
    if late { format!("was not done within {} s", timeout.as_secs()) } else { format!("failed ({status})") }
}

fn contents(mut file: File) -> Result<Vec<u8>> {
    use std::io::{Read as _, Seek as _};
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The last lines of an output, indented.
fn tail(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL);
    lines[from..].iter().map(|line| format!("    {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, seconds: u64) -> Run {
        Run::new("sh", seconds).args(["-c", script])
    }

    #[test]
    fn output_is_what_was_written_without_the_last_newline() {
        assert_eq!(shell("echo a; echo b; echo c >&2", 10).output().unwrap(), "a\nb");
    }

    #[test]
    fn each_line_is_given_as_it_comes_and_the_exit_code_at_the_end() {
        let mut lines = Vec::new();
        let code = shell("echo a; echo b; exit 3", 10).lines(|line| lines.push(line.to_owned())).unwrap();
        assert_eq!((code, lines), (3, vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn a_failure_shows_the_end_of_the_output_and_where_all_of_it_is() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let script = "for i in $(seq 1 40); do echo line $i; done; echo why >&2; exit 3";
        let error = shell(script, 10).log(log.path()).go().unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains("    why\n") && error.contains("line 40"), "{error}");
        assert!(!error.contains("line 1\n"), "{error}");
        assert!(error.contains(&log.path().display().to_string()), "{error}");
    }

    #[test]
    fn a_program_that_is_not_done_in_time_is_ended() {
        let start = Instant::now();
        let error = shell("exec sleep 60", 0).output().unwrap_err().to_string();
        assert!(error.contains("not done within 0 s"), "{error}");
        assert!(start.elapsed() < GRACE, "asking was enough");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = Run::new("no-such-program", 1).output().unwrap_err();
        assert!(format!("{error:#}").contains("no-such-program"), "{error:#}");
    }
}
