//! The operator: there, or away.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{Api, api::ListParams};

use super::wait_until;
use crate::{
    drills::target::DrillTarget,
    error::Result,
    kube::{self as cluster, ObjectRef},
    names::{DRILL_MANAGER, OPERATOR, selector},
};

/// How long the operator's pod may take to go.
const GONE: Duration = Duration::from_secs(60);

/// Reads how many pods the operator's Deployment has; at least one.
///
/// # Errors
/// The Deployment can't be read.
pub async fn replicas(target: &DrillTarget) -> Result<i32> {
    let there = target.kube.operator().await?;
    let deployments: Api<Deployment> = Api::namespaced(target.kube.client(), &there.namespace);
    let operator = deployments.get(&there.deployment).await.context("cannot read the operator's Deployment")?;
    Ok(operator.spec.and_then(|spec| spec.replicas).unwrap_or(1).max(1))
}

/// Scales the operator to zero, and waits until its pod is gone.
///
/// # Errors
/// The API's refusal, or a pod that does not go.
pub async fn stop(target: &DrillTarget) -> Result<()> {
    let there = target.kube.operator().await?;
    scale(target, &there.namespace, &there.deployment, 0).await?;
    let pods: Api<Pod> = Api::namespaced(target.kube.client(), &there.namespace);
    let operator = ListParams::default().labels(&selector(OPERATOR));
    wait_until(GONE, "the operator's pod does not go", || async { Ok(pods.list(&operator).await?.items.is_empty()) })
        .await
}

/// Brings the operator back.
///
/// # Errors
/// The API's refusal.
pub async fn start(target: &DrillTarget) -> Result<()> {
    let there = target.kube.operator().await?;
    scale(target, &there.namespace, &there.deployment, 1).await
}

/// Scales a Deployment.
///
/// # Errors
/// The API's refusal.
pub async fn scale(target: &DrillTarget, namespace: &str, name: &str, replicas: i32) -> Result<()> {
    let deployment = ObjectRef::namespaced("apps/v1", "Deployment", namespace, name);
    cluster::scale(&target.kube, &deployment, replicas.into(), DRILL_MANAGER).await
}
