//! Pods: where they are, and that they go.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams},
};

use super::wait_until;
use crate::{
    drills::target::DrillTarget,
    error::Result,
    kube::pods::is_ready,
    names::{WEB, selector},
};

/// How long a new pod of the web app may take to be ready.
const WEB_POD_READY: Duration = Duration::from_secs(60);

/// Deletes a pod with a grace period in seconds.
///
/// # Errors
/// The API's refusal.
pub async fn delete(target: &DrillTarget, pod: &str, grace: u32) -> Result<()> {
    let params = DeleteParams { grace_period_seconds: Some(grace), ..DeleteParams::default() };
    target.api::<Pod>().delete(pod, &params).await.with_context(|| format!("cannot delete pod {pod}"))?;
    Ok(())
}

/// Reads on which node a pod is.
///
/// # Errors
/// The pod can't be read, or is on no node.
pub async fn node_of(target: &DrillTarget, pod: &str) -> Result<String> {
    let found = target.api::<Pod>().get(pod).await.with_context(|| format!("cannot read pod {pod}"))?;
    found.spec.and_then(|spec| spec.node_name).with_context(|| format!("pod {pod} is on no node"))
}

/// Lists the nodes of the pods with these labels.
///
/// # Errors
/// The pods can't be listed.
pub async fn nodes_of(target: &DrillTarget, namespace: &str, labels: &str) -> Result<Vec<String>> {
    let pods: Api<Pod> = Api::namespaced(target.kube.client(), namespace);
    let found = pods.list(&ListParams::default().labels(labels)).await.context("cannot list pods")?;
    Ok(found.items.into_iter().filter_map(|pod| pod.spec?.node_name).collect())
}

/// Deletes the web app's pods, each when the one before it is replaced. `on_delete` is told each pod's name.
///
/// # Errors
/// The API's refusal, or a pod that is not replaced.
pub async fn replace_web_pods(target: &DrillTarget, on_delete: impl Fn(&str)) -> Result<()> {
    let pods = target.api::<Pod>();
    let app = ListParams::default().labels(&selector(WEB));
    let before = pods.list(&app).await?.items;
    for pod in &before {
        on_delete(&pod.name_any());
        pods.delete(&pod.name_any(), &DeleteParams::default()).await?;
        wait_until(WEB_POD_READY, "the web app's new pod is not ready", || async {
            let now = pods.list(&app).await?.items;
            let ready = now.iter().filter(|pod| is_ready(pod)).count();
            Ok(ready >= before.len())
        })
        .await?;
    }
    Ok(())
}
