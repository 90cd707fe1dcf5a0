//! Whole nodes: kept free of new pods, and emptied.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{EvictParams, ListParams, Patch},
};
use serde_json::json;

use super::wait_until;
use crate::{drills::target::DrillTarget, error::Result, kube::merge_params, names::DRILL_MANAGER};

/// How long evictions may take: the primary's has to wait for the switchover.
const DRAINED: Duration = Duration::from_secs(120);

/// Keeps new pods off a node, or lets them come again.
///
/// # Errors
/// The API's refusal.
pub async fn cordon(target: &DrillTarget, node: &str, unschedulable: bool) -> Result<()> {
    let nodes: Api<Node> = Api::all(target.kube.client());
    let patch = Patch::Merge(json!({"spec": {"unschedulable": unschedulable}}));
    nodes
        .patch(node, &merge_params(DRILL_MANAGER), &patch)
        .await
        .with_context(|| format!("cannot change the node {node}"))?;
    Ok(())
}

/// Evicts the stack's pods from a node, and waits until they are gone.
///
/// # Errors
/// The API's refusal, or pods that do not go.
pub async fn drain(target: &DrillTarget, node: &str) -> Result<()> {
    let pods = target.api::<Pod>();
    let here = ListParams::default().fields(&format!("spec.nodeName={node}"));
    wait_until(DRAINED, &format!("the node {node} is not drained"), || async {
        let mut left = 0;
        for pod in pods.list(&here).await?.items.iter().filter(|pod| !belongs_to_the_node(pod)) {
            left += 1;
            if pod.metadata.deletion_timestamp.is_some() {
                continue;
            }
            match pods.evict(&pod.name_any(), &EvictParams::default()).await {
                // A disruption budget says: not yet. Or it is gone.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 429) => {}
                other => drop(other.with_context(|| format!("cannot evict {}", pod.name_any()))?),
            }
        }
        Ok(left == 0)
    })
    .await
}

fn belongs_to_the_node(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    pod.owner_references().iter().any(|owner| owner.kind == "DaemonSet" || owner.kind == "Node")
        || matches!(phase, "Succeeded" | "Failed")
}
