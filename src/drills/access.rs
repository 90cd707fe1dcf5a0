//! What a drill needs of the cluster beyond objects: psql in an instance, and the prober's port.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::AttachParams};
use tokio::io::AsyncReadExt;

use crate::{
    error::{Result, failed},
    kube::Kube,
};

/// The container of an instance's pod.
const CONTAINER: &str = "postgres";

/// Runs a command in an instance's container and returns what it printed.
///
/// # Errors
/// The pod can't be reached within `limit`, or the command fails; what it printed on stderr is in the error.
pub async fn run(kube: &Kube, namespace: &str, pod: &str, command: &[&str], limit: Duration) -> Result<String> {
    let pods: Api<Pod> = Api::namespaced(kube.client(), namespace);
    let attach = AttachParams::default().container(CONTAINER).stdin(false).stdout(true).stderr(true);
    let work = async {
        let mut process = pods.exec(pod, command.iter().copied(), &attach).await?;
        let (mut out, mut err) = (String::new(), String::new());
        let (mut stdout, mut stderr) = (process.stdout(), process.stderr());
        let read_out = async {
            match &mut stdout {
                Some(stdout) => stdout.read_to_string(&mut out).await.map(drop),
                None => Ok(()),
            }
        };
        let read_err = async {
            match &mut stderr {
                Some(stderr) => stderr.read_to_string(&mut err).await.map(drop),
                None => Ok(()),
            }
        };
        let status = process.take_status();
        tokio::try_join!(read_out, read_err)?;
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        match status {
            Some(status) if status.status.as_deref() == Some("Success") => anyhow::Ok(out),
            Some(status) => Err(failed(if err.trim().is_empty() {
                status.message.unwrap_or_else(|| "it failed".into())
            } else {
                err.trim().to_owned()
            })
            .into()),
            None => Err(failed("the connection broke before it ended").into()),
        }
    };
    let what = command.first().copied().unwrap_or_default();
    let done = tokio::time::timeout(limit, work).await;
    let done = done.map_err(|_| failed(format!("no answer within {} s", limit.as_secs())).into());
    done.and_then(|done| done).with_context(|| format!("{what} in pod {pod}"))
}

/// Runs SQL as the superuser in an instance; lines of values separated by `|`.
///
/// # Errors
/// As [`run`]; SQL errors among them.
pub async fn psql(kube: &Kube, namespace: &str, pod: &str, database: &str, sql: &str) -> Result<String> {
    // A query in one of the drill's own checks never waits for long; what waits is broken.
    let command = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-c", sql];
    run(kube, namespace, pod, &command, Duration::from_secs(30)).await
}
