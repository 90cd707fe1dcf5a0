//! Starts processes, and is the only place that does.
//!
//! A process gets a group of its own, no terminal, a deadline and captured output. When the future that
//! waits for it is dropped (a deadline, Ctrl-C, another phase's failure) the whole group is killed: what
//! a tool started does not outlive it.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
};

use crate::error::{Result, failed, missing, timed_out};

/// Data that a program may print at most; a result, not a log.
const STDOUT_LIMIT: usize = 16 << 20;
/// What is kept of stderr: its end, where the reason is.
const STDERR_LIMIT: usize = 64 << 10;
/// A line that is longer is handed out in pieces.
const LINE_LIMIT: usize = 64 << 10;
/// Lines of a failed program that go into the error.
const SHOWN_LINES: usize = 15;
/// How long the output is read after the program itself has ended, when a child of it keeps the pipe open.
const DRAIN: Duration = Duration::from_millis(500);

/// A program to run.
#[derive(Debug)]
pub struct Cmd {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    timeout: Duration,
    stdin: Input,
}

#[derive(Debug)]
enum Input {
    Nothing,
    Handle(Stdio),
}

/// What a program printed, and how it ended.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// All of stdout.
    pub stdout: String,
    /// The end of stderr.
    pub stderr: String,
}

impl Output {
    /// The last lines of stderr (of stdout where stderr is empty), for errors.
    pub fn tail(&self) -> String {
        let text = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }
}

/// Gets each line of both streams as it comes.
pub type OnLine<'a> = dyn FnMut(&str) + Send + 'a;

impl Cmd {
    /// A program by name (looked up in `PATH`) or path; a minute to run.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Cmd {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            timeout: Duration::from_secs(60),
            stdin: Input::Nothing,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Kills it after this long.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Feeds it a file.
    ///
    /// # Errors
    /// The file can't be opened.
    pub fn stdin_file(mut self, path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        self.stdin = Input::Handle(file.into());
        Ok(self)
    }

    /// For messages: the program's name and the subcommands, without options.
    fn shown(&self) -> String {
        let name = Path::new(&self.program).file_name().unwrap_or(&self.program).to_string_lossy().into_owned();
        let words = self.args.iter().map(|arg| arg.to_string_lossy());
        let words = words.take_while(|word| !word.starts_with('-')).take(2);
        std::iter::once(name).chain(words.map(|word| word.into_owned())).collect::<Vec<_>>().join(" ")
    }

    /// Runs it to its end, however it ends.
    ///
    /// # Errors
    /// It can't be started, runs out of time, or prints more than a result may have.
    pub async fn output(self) -> Result<Output> {
        self.output_with(&mut |_| {}).await
    }

    /// Runs the command; an exit code other than 0 is an error with its last lines.
    ///
    /// # Errors
    /// As [`Cmd::output`], and its own failure.
    pub async fn run(self) -> Result<Output> {
        self.run_with(&mut |_| {}).await
    }

    /// Runs the command as [`Cmd::run`] does, handing out each line as it comes.
    ///
    /// # Errors
    /// As [`Cmd::run`].
    pub async fn run_with(self, on_line: &mut OnLine<'_>) -> Result<Output> {
        let shown = self.shown();
        succeeded(&shown, self.output_with(on_line).await?)
    }

    /// Runs the command as [`Cmd::output`] does, handing out each line as it comes.
    ///
    /// # Errors
    /// As [`Cmd::output`].
    pub async fn output_with(self, on_line: &mut OnLine<'_>) -> Result<Output> {
        self.start(Stdio::piped())?.finish(on_line).await
    }

    /// Runs `self | next`; both must succeed.
    ///
    /// # Errors
    /// Either one's failure; the reader's first, because a writer then only reports a broken pipe.
    pub async fn pipe_to(self, mut next: Cmd) -> Result<()> {
        let (from, to) = (self.shown(), next.shown());
        let mut writer = self.start(Stdio::piped())?;
        let stdout = writer.child.stdout.take().context("the pipe is not there")?;
        next.stdin = Input::Handle(stdout.try_into().context("the pipe cannot be passed on")?);
        let reader = next.start(Stdio::piped())?;
        let (mut quiet, mut silent) = (|_: &str| {}, |_: &str| {});
        let (wrote, read) = tokio::join!(writer.finish(&mut quiet), reader.finish(&mut silent));
        succeeded(&to, read?)?;
        succeeded(&from, wrote?)?;
        Ok(())
    }

    /// Starts it and lets go: it is the user's from then on and outlives this program. Only a failure within
    /// `notice` is told.
    ///
    /// # Errors
    /// It can't be started, or ends with an exit code other than 0 within that time.
    pub async fn detach(self, notice: Duration) -> Result<()> {
        let shown = self.shown();
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.env).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.process_group(0).spawn().map_err(|error| cannot_start(&self.program, &error))?;
        match tokio::time::timeout(notice, child.wait()).await {
            Ok(Ok(status)) if !status.success() => Err(failed(format!("`{shown}` failed ({status})")).into()),
            Ok(Err(error)) => Err(error).with_context(|| format!("cannot wait for `{shown}`")),
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }

    fn start(self, stdout: Stdio) -> Result<Running> {
        let shown = self.shown();
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.env).stdout(stdout).stderr(Stdio::piped());
        // A group of its own: Ctrl-C in the terminal reaches stackctl only, which then ends the group.
        command.process_group(0).kill_on_drop(true);
        match self.stdin {
            Input::Nothing => command.stdin(Stdio::null()),
            Input::Handle(handle) => command.stdin(handle),
        };
        tracing::debug!(program = ?self.program, args = ?self.args, "starting");
        let child = command.spawn().map_err(|error| cannot_start(&self.program, &error))?;
        let group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        Ok(Running { shown, timeout: self.timeout, child, group })
    }
}

fn cannot_start(program: &OsStr, error: &std::io::Error) -> anyhow::Error {
    let program = program.to_string_lossy();
    match error.kind() {
        std::io::ErrorKind::NotFound => missing(format!("{program} is not installed: it is not in PATH")).into(),
        std::io::ErrorKind::PermissionDenied => missing(format!("{program} is not executable")).into(),
        _ => failed(format!("cannot start {program}: {error}")).into(),
    }
}

fn succeeded(shown: &str, output: Output) -> Result<Output> {
    if output.status.success() {
        return Ok(output);
    }
    let tail = output.tail();
    let said = if tail.is_empty() {
        " and said nothing".into()
    } else {
        format!(":\n{}", tail.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n"))
    };
    Err(failed(format!("`{shown}` failed ({}){said}", output.status)).into())
}

/// A running program. Dropping it kills its process group.
struct Running {
    shown: String,
    timeout: Duration,
    child: Child,
    group: Group,
}

struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            // It may have ended in the same moment.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Running {
    async fn finish(mut self, on_line: &mut OnLine<'_>) -> Result<Output> {
        let on_line = Mutex::new(on_line);
        let stdout = Mutex::new(Vec::new());
        let stderr = Mutex::new(Vec::new());
        let too_much = Mutex::new(false);
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        let keep_out = |chunk: &[u8]| {
            let mut kept = lock(&stdout);
            if kept.len() + chunk.len() <= STDOUT_LIMIT {
                kept.extend_from_slice(chunk);
            } else {
                *lock(&too_much) = true;
            }
        };
        let keep_err = |chunk: &[u8]| {
            let mut kept = lock(&stderr);
            kept.extend_from_slice(chunk);
            let excess = kept.len().saturating_sub(STDERR_LIMIT);
            kept.drain(..excess);
        };
        let io = async { tokio::join!(pump(out, &keep_out, &on_line), pump(err, &keep_err, &on_line)) };
        tokio::pin!(io);
        let ended = async {
            let status = tokio::select! {
                status = self.child.wait() => {
                    let status = status?;
                    // What is in the pipes by now is read; a stray child that keeps them open is not waited for.
                    let _ = tokio::time::timeout(DRAIN, &mut io).await;
                    status
                }
                _ = &mut io => self.child.wait().await?,
            };
            Ok::<_, std::io::Error>(status)
        };
        let status = match tokio::time::timeout(self.timeout, ended).await {
            Ok(status) => status.with_context(|| format!("cannot wait for `{}`", self.shown))?,
            Err(_) => return Err(timed_out(format!("`{}` did not end within {:?}", self.shown, self.timeout)).into()),
        };
        // Waited for: its number may belong to another process from now on.
        self.group.0 = None;
        if *lock(&too_much) {
            return Err(failed(format!("`{}` printed more than {} MiB", self.shown, STDOUT_LIMIT >> 20)).into());
        }
        let text = |bytes: &Mutex<Vec<u8>>| String::from_utf8_lossy(&lock(bytes)).into_owned();
        Ok(Output { status, stdout: text(&stdout), stderr: text(&stderr) })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn pump<R: AsyncRead + Unpin>(from: Option<R>, keep: &impl Fn(&[u8]), on_line: &Mutex<&mut OnLine<'_>>) {
    let Some(mut from) = from else { return };
    let mut chunk = vec![0; 16 << 10];
    let mut line = Vec::new();
    // A read error is the end of what can be read; the exit code tells the rest.
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        keep(&chunk[..count]);
        for &byte in &chunk[..count] {
            if byte != b'\n' && byte != b'\r' {
                line.push(byte);
            }
            if (byte == b'\n' || byte == b'\r' || line.len() >= LINE_LIMIT) && !line.is_empty() {
                lock(on_line)(&String::from_utf8_lossy(&line));
                line.clear();
            }
        }
    }
    if !line.is_empty() {
        lock(on_line)(&String::from_utf8_lossy(&line));
    }
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
