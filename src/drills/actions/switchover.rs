//! Steps that several scenarios take.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;

use crate::{
    drills::{
        model::events::Kind,
        observer::{Seen, wait},
        scenarios::Scene,
        target::{MANAGER, Stack, text},
    },
    error::{Result, timed_out},
};

/// How long a step of a scenario may take.
const STEP: Duration = Duration::from_secs(60);
/// How long an instance may take to come or to change its role.
pub const CHANGE: Duration = Duration::from_secs(180);

/// Deletes a pod with a grace period in seconds, and notes it as the fault.
pub async fn kill(scene: &Scene<'_>, pod: &str, grace: u32) -> Result<String> {
    scene.observer.note(Kind::Injected, format!("pod {pod} deleted"));
    let params = DeleteParams { grace_period_seconds: Some(grace), ..DeleteParams::default() };
    scene.stack.api::<Pod>().delete(pod, &params).await.with_context(|| format!("cannot delete pod {pod}"))?;
    Ok(format!("pod {pod} deleted"))
}

/// What `kubectl cnpg promote` does.
pub async fn promote(stack: &Stack, target: &str) -> Result<()> {
    let now = jiff::Timestamp::now().to_string();
    let patch = json!({"status": {"targetPrimary": target, "targetPrimaryTimestamp": now,
        "phase": "Switchover in progress", "phaseReason": format!("Switching over to {target}")}});
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let clusters = stack.clusters();
    clusters
        .patch_status(&stack.database.get(), &params, &Patch::Merge(patch))
        .await
        .context("cannot ask for a switchover")?;
    Ok(())
}

/// Makes an instance the primary and waits until everything is well again.
pub async fn make_primary(stack: &Stack, target: &str) -> Result<()> {
    promote(stack, target).await?;
    let late = format!("{target} does not become the primary");
    poll(CHANGE, &late, async || Ok(text(&stack.cluster().await?, "/status/currentPrimary") == target)).await?;
    stack.settled().await.context(late)?;
    Ok(())
}

/// The node of a pod.
pub async fn node_of(stack: &Stack, pod: &str) -> Result<String> {
    let found = stack.api::<Pod>().get(pod).await.with_context(|| format!("cannot read pod {pod}"))?;
    found.spec.and_then(|spec| spec.node_name).with_context(|| format!("pod {pod} is on no node"))
}

/// Asks every 300 ms until it holds.
pub async fn poll(limit: Duration, late: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let all = async {
        loop {
            if holds().await? {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    tokio::time::timeout(limit, all).await.map_err(|_| timed_out(format!("{late} within {} s", limit.as_secs())))?
}

/// As [`poll`], for steps that take seconds.
pub async fn soon(late: &str, holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    poll(STEP, late, holds).await
}

/// Waits until another instance is the primary; whether it is.
pub async fn moved(scene: &Scene<'_>, limit: Duration) -> bool {
    let before = scene.primary.clone();
    let mut seen = scene.observer.seen.clone();
    wait(&mut seen, limit, move |now| !now.current_primary.is_empty() && now.current_primary != before).await
}

/// Whether the fault has been noticed: another pod, one that is not ready, or another target.
pub async fn disturbed(seen: &mut watch::Receiver<Seen>, before: &Seen, limit: Duration) -> bool {
    let before = before.clone();
    wait(seen, limit, move |now| now.pods != before.pods || now.target_primary != before.target_primary).await
}

/// The standbys of a healthy cluster.
///
/// # Errors
/// The Cluster can't be read.
pub async fn cast(stack: &Stack, primary: &str) -> Result<Vec<String>> {
    let cluster = stack.cluster().await?;
    let all = cluster.data.pointer("/status/instanceNames").and_then(|v| v.as_array()).cloned().unwrap_or_default();
    debug_assert_eq!(text(&cluster, "/status/currentPrimary"), primary);
    Ok(all.iter().filter_map(|v| v.as_str()).filter(|name| *name != primary).map(str::to_owned).collect())
}
