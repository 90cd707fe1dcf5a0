//! The operator goes away.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{Api, api::ListParams};

use super::{COMMON, Role, Scenario, Scene};
use crate::drills::actions::switchover::{kill, soon};
use crate::{
    drills::{
        model::events::Kind,
        undo::{Undo, scale},
    },
    error::Result,
};

/// The operator's namespace.
pub const OPERATOR_NAMESPACE: &str = "cnpg-system";
/// The operator's Deployment.
pub const OPERATOR: &str = "cnpg-controller-manager";
/// The label of its pods.
pub const OPERATOR_PODS: &str = "app.kubernetes.io/name=cloudnative-pg";
/// How long it is away after the primary was lost.
const AWAY: Duration = Duration::from_secs(10);

pub static OPERATOR_DOWN: Scenario = Scenario {
    id: "operator-down",
    title: "The primary fails while the operator is away",
    does: "scales the operator to zero, deletes the primary's pod, brings the operator back after 10 s",
    must: "a standby is promoted once the operator is back",
    undone: "the operator is scaled back",
    role: Role::Moves,
    undo: |s| Box::pin(replicas(s)),
    inject: |s| Box::pin(down(s)),
    then: |s| Box::pin(back(s)),
    ..COMMON
};

async fn replicas(scene: &Scene<'_>) -> Result<Vec<Undo>> {
    let deployments: Api<Deployment> = Api::namespaced(scene.stack.kube.client(), OPERATOR_NAMESPACE);
    let operator = deployments.get(OPERATOR).await.context("cannot read the operator's Deployment")?;
    let replicas = operator.spec.and_then(|spec| spec.replicas).unwrap_or(1).max(1);
    Ok(vec![Undo::Scale { namespace: OPERATOR_NAMESPACE.into(), name: OPERATOR.into(), replicas }])
}

async fn down(scene: &Scene<'_>) -> Result<String> {
    scale(scene.stack, OPERATOR_NAMESPACE, OPERATOR, 0).await?;
    let pods: Api<Pod> = Api::namespaced(scene.stack.kube.client(), OPERATOR_NAMESPACE);
    let operator = ListParams::default().labels(OPERATOR_PODS);
    soon("the operator's pod does not go", async || Ok(pods.list(&operator).await?.items.is_empty())).await?;
    kill(scene, &scene.primary, 1).await
}

async fn back(scene: &Scene<'_>) -> Result<()> {
    tokio::time::sleep(AWAY).await;
    scene.observer.note(Kind::Note, "the operator is brought back");
    // The same as undoing it, which will find it done.
    scale(scene.stack, OPERATOR_NAMESPACE, OPERATOR, 1).await
}
