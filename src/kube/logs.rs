//! Logs of every pod that a selector matches, followed through restarts and replacements.

use std::{collections::HashSet, time::Duration};

use anyhow::Context as _;
use futures::{AsyncBufReadExt, StreamExt, stream::SelectAll};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ListParams, LogParams},
};

use super::Kube;
use crate::error::{Result, failed};

/// How often `--follow` looks for pods that have come since.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Whose logs.
#[derive(Debug, Clone)]
pub struct LogSource {
    /// The pods' namespace.
    pub namespace: String,
    /// Which pods, as a label selector.
    pub selector: String,
    /// Which container of them; `None`: the only one.
    pub container: Option<String>,
}

/// Calls `on_line` with the pod's name and a line, for each of the last `tail` lines of each pod and, if
/// `follow`, for those that come, until the caller drops this.
///
/// # Errors
/// No pod matches, or the API server refuses.
pub async fn print(
    kube: &Kube,
    source: &LogSource,
    tail: i64,
    follow: bool,
    on_line: &mut (dyn FnMut(&str, &str) + Send),
) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(kube.client(), &source.namespace);
    let mut seen: HashSet<String> = HashSet::new();
    let mut lines = SelectAll::new();
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut first = true;
    loop {
        // A container that restarts is a new stream: the id is the container's, not the pod's.
        for (pod, container) in containers(&api, source).await? {
            if !seen.insert(container) {
                continue;
            }
            let params = LogParams {
                container: source.container.clone(),
                follow,
                // What came after the first look is all news.
                tail_lines: first.then_some(tail),
                ..LogParams::default()
            };
            let stream = api.log_stream(&pod, &params).await;
            let stream = stream.with_context(|| format!("cannot read the log of {}/{pod}", source.namespace))?;
            lines.push(stream.lines().map(move |line| (pod.clone(), line)).boxed());
        }
        if seen.is_empty() {
            let what = format!("no pod matches {} in namespace {}", source.selector, source.namespace);
            return Err(failed(what).remedy("stackctl status shows what is installed").into());
        }
        first = false;
        look.reset();
        loop {
            tokio::select! {
                next = lines.next() => match next {
                    Some((pod, Ok(line))) => on_line(&pod, &line),
                    // The stream of a pod that goes away breaks: its successor is found at the next look.
                    Some((_, Err(_))) => {}
                    None if !follow => return Ok(()),
                    None => {
                        look.tick().await;
                        break;
                    }
                },
                _ = look.tick(), if follow => break,
            }
        }
    }
}

/// The pods that have a log, with the id of the container that writes it.
async fn containers(api: &Api<Pod>, source: &LogSource) -> Result<Vec<(String, String)>> {
    let pods = api.list(&ListParams::default().labels(&source.selector)).await?.items;
    let mut found = Vec::new();
    for pod in pods {
        let Some(name) = pod.metadata.name else { continue };
        for status in pod.status.and_then(|status| status.container_statuses).unwrap_or_default() {
            let wanted = source.container.as_ref().is_none_or(|container| *container == status.name);
            // Without an id it has not started, and asking for its log is an error.
            if let Some(id) = status.container_id.filter(|id| wanted && !id.is_empty()) {
                found.push((name.clone(), id));
            }
        }
    }
    Ok(found)
}
