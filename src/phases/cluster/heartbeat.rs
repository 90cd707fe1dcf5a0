//! With several nodes a dead one is to be noticed in seconds, not in a minute: how often the kubelets say that
//! they are there, and how long the control plane waits for it.
//!
//! A kubelet renews its Lease every quarter of the Lease's length, which is 40 s by default and can be set in
//! its configuration file only: minikube's `--extra-config` does not reach it.

use std::time::Duration;

use ::kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use anyhow::Context as _;
use k8s_openapi::api::coordination::v1::Lease;

use crate::{error::Result, kube::Kube, poll, tools::node};

/// Where the nodes' Leases are.
const NAMESPACE: &str = "kube-node-lease";
/// The length of a node's Lease in seconds: it is renewed every 1.5 s.
const LEASE: i32 = 6;
/// A kubelet makes its Lease a moment after it has started.
const PATIENCE: Duration = Duration::from_secs(60);

/// For `minikube start`: a node that has missed four renewals is dead. The control plane looks every second.
pub const NOTICE_DEAD_NODES: [&str; 2] =
    ["controller-manager.node-monitor-grace-period=6s", "controller-manager.node-monitor-period=1s"];

/// Those of the nodes that do not renew often enough.
///
/// # Errors
/// The API's.
pub async fn slow(kube: &Kube, nodes: &[String]) -> Result<Vec<String>> {
    let leases: Api<Lease> = Api::namespaced(kube.client(), NAMESPACE);
    let found = leases.list(&ListParams::default()).await.context("cannot list the nodes' Leases")?;
    let quick = |node: &String| {
        let lease = found.items.iter().find(|lease| lease.name_any() == *node);
        lease.and_then(|lease| lease.spec.as_ref()?.lease_duration_seconds) == Some(LEASE)
    };
    Ok(nodes.iter().filter(|node| !quick(node)).cloned().collect())
}

/// Makes the nodes say more often that they are there.
///
/// # Errors
/// A node that does not answer; the API's.
pub async fn quicken(kube: &Kube, nodes: &[String]) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(kube.client(), NAMESPACE);
    for name in nodes {
        node::configure_kubelet(name, "nodeLeaseDurationSeconds", &LEASE.to_string()).await?;
        // A kubelet leaves the length of a Lease that is there as it is.
        match leases.delete(name, &DeleteParams::default()).await {
            Err(::kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other.with_context(|| format!("cannot remove the Lease of the node {name}"))?),
        }
    }
    let late = "the kubelets do not renew their Leases as they are told";
    poll::until(PATIENCE, Duration::from_millis(500), late, || async {
        Ok(slow(kube, nodes).await?.is_empty().then_some(()))
    })
    .await
}
