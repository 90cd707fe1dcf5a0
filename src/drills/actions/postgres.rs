//! Commands in an instance's container.

use std::time::Duration;

use crate::{
    error::Result,
    kube::{Kube, exec},
};

/// The container of an instance's pod.
pub const CONTAINER: &str = "postgres";
/// A query of a drill's own checks never waits for long; what waits is broken.
const QUERY: Duration = Duration::from_secs(30);

/// Runs a command in an instance's container and returns what it printed.
///
/// # Errors
/// As [`exec::run`].
pub async fn run(kube: &Kube, namespace: &str, pod: &str, command: &[&str], limit: Duration) -> Result<String> {
    exec::run(kube, namespace, pod, CONTAINER, command, limit).await
}

/// Runs SQL as the superuser in an instance; lines of values separated by `|`.
///
/// # Errors
/// As [`exec::run`]; SQL errors among them.
pub async fn psql(kube: &Kube, namespace: &str, pod: &str, database: &str, sql: &str) -> Result<String> {
    let command = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-c", sql];
    run(kube, namespace, pod, &command, QUERY).await
}
