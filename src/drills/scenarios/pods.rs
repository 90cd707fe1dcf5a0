//! Pods that go away.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams},
};

use super::{COMMON, Role, Scenario, Scene};
use crate::drills::actions::switchover::{kill, soon};
use crate::{
    drills::{model::events::Kind, target::WEB},
    error::Result,
};

pub static PRIMARY_DELETE: Scenario = Scenario {
    id: "primary-delete",
    title: "The primary's pod is deleted",
    does: "deletes the primary's pod with a grace period of one second",
    must: "a standby is promoted, the old primary comes back as a standby",
    role: Role::Moves,
    inject: |s| Box::pin(kill(s, &s.primary, 1)),
    ..COMMON
};

pub static STANDBY_LOSS: Scenario = Scenario {
    id: "standby-loss",
    title: "A standby fails",
    does: "deletes a standby's pod without a grace period",
    must: "writes go on with the other standby",
    role: Role::Stays,
    calm: true,
    inject: |s| Box::pin(kill(s, &s.standbys[0], 0)),
    ..COMMON
};

pub static DOUBLE_FAULT: Scenario = Scenario {
    id: "double-fault",
    title: "The primary and a standby fail together",
    does: "deletes the pods of one standby and of the primary without a grace period",
    must: "the quorum refuses to promote while it can't be sure; recovery when it can, nothing acknowledged is lost",
    undone: "by the operator, which makes the pods again",
    refused: true,
    inject: |s| Box::pin(double_fault(s)),
    ..COMMON
};

pub static WEB_PODS: Scenario = Scenario {
    id: "web-pods",
    title: "The web app's pods are replaced one by one",
    does: "deletes every pod of the web app, one after the other",
    must: "no request fails",
    undone: "by the Deployment, which makes the pods again",
    role: Role::Stays,
    calm: true,
    inject: |s| Box::pin(async { Ok(format!("deleting the pods of {WEB} in {}", s.stack.namespace)) }),
    then: |s| Box::pin(web_pods(s)),
    ..COMMON
};

/// The standby first: were the primary gone while both standbys are there, the quorum would rightly agree.
async fn double_fault(scene: &Scene<'_>) -> Result<String> {
    let standby = &scene.standbys[0];
    kill(scene, standby, 0).await?;
    kill(scene, &scene.primary, 0).await?;
    Ok(format!("pods {standby} and {} deleted", scene.primary))
}

async fn web_pods(scene: &Scene<'_>) -> Result<()> {
    let pods = scene.stack.api::<Pod>();
    let app = ListParams::default().labels(&format!("app.kubernetes.io/name={WEB}"));
    let before = pods.list(&app).await?.items;
    for pod in &before {
        scene.observer.note(Kind::Note, format!("{} is deleted", pod.name_any()));
        pods.delete(&pod.name_any(), &DeleteParams::default()).await?;
        soon("the web app's new pod is not ready", async || {
            let now = pods.list(&app).await?.items;
            let ready = now.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod)).count();
            Ok(ready >= before.len())
        })
        .await?;
    }
    Ok(())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}
