//! Commands inside a pod: with captured output, or attached to the user's terminal.

use std::time::Duration;

use anyhow::Context as _;
use futures::SinkExt;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status};
use kube::{
    Api,
    api::{AttachParams, AttachedProcess, TerminalSize},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::{Kube, terminal::RawTerminal};
use crate::error::{Result, failed, timed_out};

/// For commands that answer at once.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

/// What a command may print before the rest is cut off; nothing that stackctl asks for is longer.
const MOST_OUTPUT: u64 = 64 * 1024 * 1024;

/// Runs `command` in a container and returns what it wrote to stdout.
///
/// # Errors
/// No such pod or container, a non-zero exit code (with what it wrote to stderr), or no end within `timeout`.
pub async fn run(
    kube: &Kube,
    namespace: &str,
    pod: &str,
    container: &str,
    command: &[&str],
    timeout: Duration,
) -> Result<String> {
    let program = command.first().copied().unwrap_or_default();
    let work = async {
        let api: Api<Pod> = Api::namespaced(kube.client(), namespace);
        let params = AttachParams::default().container(container).stdin(false).stdout(true).stderr(true);
        let mut process = api
            .exec(pod, command.iter().copied(), &params)
            .await
            .with_context(|| format!("cannot run {program} in pod {namespace}/{pod}"))?;
        let status = process.take_status();
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let (stdout, stderr) = tokio::join!(read(stdout), read(stderr));
        match exit_code(status).await? {
            0 => Ok(stdout),
            code => {
                let said = stderr.trim();
                Err(failed(format!("{program} in pod {namespace}/{pod} ended with exit code {code}: {said}")).into())
            }
        }
    };
    match tokio::time::timeout(timeout, work).await {
        Ok(result) => result,
        Err(_) => Err(timed_out(format!("{program} in pod {namespace}/{pod} did not end within {timeout:?}")).into()),
    }
}

async fn read(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // A connection that breaks shows as a missing exit status, which is the better error.
        let _ = pipe.take(MOST_OUTPUT).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn exit_code(status: Option<impl Future<Output = Option<Status>>>) -> Result<u8> {
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    let status = status.context("the connection to the pod ended before the command did")?;
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
    let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    match code.and_then(|cause| cause.message.as_deref()?.parse().ok()) {
        Some(code) => Ok(code),
        None => Err(failed(format!("the command was not run: {}", status.message.unwrap_or_default())).into()),
    }
}

/// Runs `command` in a container with this process's stdin, stdout and stderr, on a terminal of its own if
/// `terminal`; returns its exit code. Ends when the command does: there is no deadline, a person is at work.
///
/// # Errors
/// No such pod or container, or a connection that breaks.
pub async fn attach(
    kube: &Kube,
    namespace: &str,
    pod: &str,
    container: &str,
    command: &[&str],
    terminal: bool,
) -> Result<u8> {
    let api: Api<Pod> = Api::namespaced(kube.client(), namespace);
    let params = AttachParams::default().container(container).stdin(true).stdout(true).stderr(!terminal).tty(terminal);
    let mut process = api
        .exec(pod, command.iter().copied(), &params)
        .await
        .with_context(|| format!("cannot attach to pod {namespace}/{pod}"))?;
    // Restored when it is dropped, whichever way this ends.
    let _raw = if terminal { Some(RawTerminal::enter()?) } else { None };
    let sizes = terminal.then(|| tokio::spawn(send_sizes(process.terminal_size())));
    let input = tokio::spawn(send_input(process.stdin()));
    let code = copy_output(&mut process).await;
    input.abort();
    if let Some(sizes) = sizes {
        sizes.abort();
    }
    code
}

async fn copy_output(process: &mut AttachedProcess) -> Result<u8> {
    let status = process.take_status();
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let out = copy(stdout, tokio::io::stdout());
    let err = copy(stderr, tokio::io::stderr());
    tokio::join!(out, err);
    exit_code(status).await
}

async fn copy(from: Option<impl AsyncRead + Unpin>, mut to: impl tokio::io::AsyncWrite + Unpin) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count) = from.read(&mut buffer).await {
        // A closed pipe (`| head`) ends the copy; the command then ends with its connection.
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}

async fn send_input(to: Option<impl tokio::io::AsyncWrite + Unpin>) {
    let Some(mut to) = to else { return };
    let mut stdin = tokio::io::stdin();
    let _ = tokio::io::copy(&mut stdin, &mut to).await;
    // End of input: the command must see it, or `echo 'select 1' | stackctl psql` never ends.
    let _ = to.shutdown().await;
}

async fn send_sizes(sender: Option<futures::channel::mpsc::Sender<TerminalSize>>) {
    use tokio::signal::unix::{SignalKind, signal};
    let Some(mut sender) = sender else { return };
    let Ok(mut changed) = signal(SignalKind::window_change()) else { return };
    loop {
        if let Some((width, height)) = super::terminal::size()
            && sender.send(TerminalSize { width, height }).await.is_err()
        {
            return;
        }
        if changed.recv().await.is_none() {
            return;
        }
    }
}
