//! Registries, through the Docker engine: it has the logins, the proxies and the certificates that they ask for.

use std::time::Duration;

use super::{
    docker::{docker, not_installed},
    runner::OnLine,
};
use crate::error::{Failure, Result, failed};

/// Pushes the image to the registry in its name.
///
/// # Errors
/// A registry that can't be reached or refuses, with a remedy.
pub async fn push(name: &str, timeout: Duration, on_line: &mut OnLine<'_>) -> Result<()> {
    let output = docker().args(["push", name]).timeout(timeout).output_with(on_line).await.map_err(not_installed)?;
    if output.status.success() {
        return Ok(());
    }
    Err(refused_by_registry("push", name, &output.tail()).into())
}

/// Pulls the image from the registry in its name.
///
/// # Errors
/// A registry that can't be reached or refuses, with a remedy.
pub async fn pull(name: &str, timeout: Duration, on_line: &mut OnLine<'_>) -> Result<()> {
    let output = docker().args(["pull", name]).timeout(timeout).output_with(on_line).await.map_err(not_installed)?;
    if output.status.success() {
        return Ok(());
    }
    Err(refused_by_registry("pull", name, &output.tail()).into())
}

/// Why the registry of the image `name` was of no use.
fn refused_by_registry(verb: &str, name: &str, said: &str) -> Failure {
    let registry = name.split('/').next().unwrap_or(name);
    let refused = ["denied", "unauthorized", "no basic auth"].iter().any(|word| said.to_lowercase().contains(word));
    let failure = failed(format!("cannot {verb} {name}: {}", said.replace('\n', "; ")));
    if refused {
        failure.remedy(format!("docker login {registry}"))
    } else if said.contains("server gave HTTP response to HTTPS client") {
        failure.remedy(format!(
            "{registry} speaks no TLS: list it as an insecure registry in the engine's configuration \
             (\"insecure-registries\": [\"{registry}\"] in daemon.json), and restart the engine"
        ))
    } else {
        failure.remedy(format!("check that {registry} is reachable from this machine's engine and spelled right"))
    }
}
