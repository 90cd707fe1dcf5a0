//! The scenarios: what each does, what must happen, and how it is undone.

use std::time::Duration;

use anyhow::Context as _;
use futures::future::LocalBoxFuture;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::sync::watch;

use super::{
    events::Kind,
    history::Lsn,
    observer::{Observer, Seen, wait},
    record::{self, FENCING, Undo},
    stack::{CLUSTER, MANAGER, Stack, WEB, text},
};
use crate::error::{Result, timed_out};

/// The operator's namespace.
pub const OPERATOR_NAMESPACE: &str = "cnpg-system";
/// The operator's Deployment.
pub const OPERATOR: &str = "cnpg-controller-manager";

/// What a scenario works with.
pub struct Scene<'a> {
    /// The stack.
    pub stack: &'a Stack,
    /// What is seen of it, and where notes go.
    pub observer: &'a Observer,
    /// The primary before the fault.
    pub primary: String,
    /// The standbys before the fault.
    pub standbys: Vec<String>,
}

/// What must come of the primary's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A standby takes it.
    Moves,
    /// It stays where it is.
    Stays,
    /// Either is right.
    Either,
}

/// A way to break the stack.
pub struct Scenario {
    /// Its name on the command line.
    pub id: &'static str,
    /// What happens, as a headline.
    pub title: &'static str,
    /// What it does.
    pub does: &'static str,
    /// What must come of it.
    pub must: &'static str,
    /// How it is undone.
    pub undone: &'static str,
    /// What must come of the primary's role.
    pub role: Role,
    /// Whether the checker must find a loss: a negative control.
    pub control: bool,
    /// What is to be undone; decided and recorded before the fault.
    pub undo: for<'a> fn(&'a Scene<'a>) -> LocalBoxFuture<'a, Result<Vec<Undo>>>,
    /// Breaks it; returns what was done, in words.
    pub inject: for<'a> fn(&'a Scene<'a>) -> LocalBoxFuture<'a, Result<String>>,
    /// Goes on after the fault is in and was noted.
    pub then: for<'a> fn(&'a Scene<'a>) -> LocalBoxFuture<'a, Result<()>>,
}

/// Every scenario; the first is the default, the control is last.
pub static ALL: [Scenario; 10] = [
    Scenario {
        id: "primary-delete",
        title: "The primary's pod is deleted",
        does: "deletes the primary's pod with a grace period of one second",
        must: "a standby is promoted, the old primary comes back as a standby",
        undone: "by the operator, which makes the pod again",
        role: Role::Moves,
        control: false,
        undo: nothing,
        inject: |s| Box::pin(async { kill(s, &s.primary, 1).await }),
        then: done,
    },
    Scenario {
        id: "switchover",
        title: "A planned switchover",
        does: "asks the operator to make a standby the primary",
        must: "the old primary stops, the standby is promoted, nothing acknowledged is lost",
        undone: "not needed: the roles have changed",
        role: Role::Moves,
        control: false,
        undo: nothing,
        inject: |s| Box::pin(switchover(s)),
        then: done,
    },
    Scenario {
        id: "double-fault",
        title: "The primary and a standby fail together",
        does: "deletes the pods of the primary and of one standby without a grace period",
        must: "no promotion while the quorum can't be sure, recovery when it can, nothing acknowledged is lost",
        undone: "by the operator, which makes the pods again",
        role: Role::Either,
        control: false,
        undo: nothing,
        inject: |s| Box::pin(double_fault(s)),
        then: done,
    },
    Scenario {
        id: "standby-loss",
        title: "A standby fails",
        does: "deletes a standby's pod without a grace period",
        must: "writes go on with the other standby",
        undone: "by the operator, which makes the pod again",
        role: Role::Stays,
        control: false,
        undo: nothing,
        inject: |s| Box::pin(async { kill(s, &s.standbys[0], 0).await }),
        then: done,
    },
    Scenario {
        id: "postmaster-crash",
        title: "PostgreSQL crashes on the primary",
        does: "kills the primary's postmaster with SIGKILL",
        must: "it recovers in place or a standby is promoted",
        undone: "by the instance manager",
        role: Role::Either,
        control: false,
        undo: nothing,
        inject: |s| {
            Box::pin(async {
                s.observer.note(Kind::Injected, format!("PostgreSQL killed on {}", s.primary));
                record::signal(s.stack, &s.primary, "KILL").await?;
                Ok(format!("PostgreSQL killed on {}", s.primary))
            })
        },
        then: done,
    },
    Scenario {
        id: "rolling-restart",
        title: "A rolling restart of the database",
        does: "restarts every instance, the primary last, as after a change of its image",
        must: "writes pause for the last one only, nothing acknowledged is lost",
        undone: "not needed",
        role: Role::Either,
        control: false,
        undo: nothing,
        inject: |s| Box::pin(rolling_restart(s)),
        then: done,
    },
    Scenario {
        id: "operator-down",
        title: "The primary fails while the operator is away",
        does: "scales the operator to zero, deletes the primary's pod, brings the operator back after 10 s",
        must: "a standby is promoted once the operator is back",
        undone: "the operator is scaled back",
        role: Role::Moves,
        control: false,
        undo: |s| Box::pin(operator_replicas(s)),
        inject: |s| Box::pin(operator_down(s)),
        then: |s| Box::pin(operator_back(s)),
    },
    Scenario {
        id: "pvc-loss",
        title: "The primary loses its volume",
        does: "deletes the primary's volume claim together with its pod",
        must: "a standby is promoted, a new instance is made from it",
        undone: "by the operator, which makes a new instance",
        role: Role::Moves,
        control: false,
        undo: nothing,
        inject: |s| Box::pin(lose_volume(s)),
        then: done,
    },
    Scenario {
        id: "web-pods",
        title: "The web app's pods are replaced one by one",
        does: "deletes every pod of the web app, one after the other",
        must: "no request fails",
        undone: "by the Deployment, which makes the pods again",
        role: Role::Stays,
        control: false,
        undo: nothing,
        inject: |s| Box::pin(async { Ok(format!("deleting the pods of {WEB} in {}", s.stack.namespace)) }),
        then: |s| Box::pin(web_pods(s)),
    },
    Scenario {
        id: "control",
        title: "Negative control: a loss that must be found",
        does: "turns synchronous replication off, stops the standbys, goes on writing, then destroys the primary's \
               volume and lets a standby take over",
        must: "acknowledged writes are lost, and the checker finds it",
        undone: "synchronous replication is turned on again, the standbys run again",
        role: Role::Moves,
        control: true,
        undo: |s| Box::pin(control_undo(s)),
        inject: |s| Box::pin(control(s)),
        then: |s| Box::pin(control_takeover(s)),
    },
];

/// How long a step of a scenario may take.
const STEP: Duration = Duration::from_secs(60);

fn nothing<'a>(_: &'a Scene<'a>) -> LocalBoxFuture<'a, Result<Vec<Undo>>> {
    Box::pin(async { Ok(Vec::new()) })
}

fn done<'a>(_: &'a Scene<'a>) -> LocalBoxFuture<'a, Result<()>> {
    Box::pin(async { Ok(()) })
}

async fn kill(scene: &Scene<'_>, pod: &str, grace: u32) -> Result<String> {
    scene.observer.note(Kind::Injected, format!("pod {pod} deleted"));
    let params = DeleteParams { grace_period_seconds: Some(grace), ..DeleteParams::default() };
    scene.stack.api::<Pod>().delete(pod, &params).await.with_context(|| format!("cannot delete pod {pod}"))?;
    Ok(format!("pod {pod} deleted"))
}

async fn switchover(scene: &Scene<'_>) -> Result<String> {
    let target = &scene.standbys[0];
    scene.observer.note(Kind::Injected, format!("switchover to {target} asked for"));
    promote(scene, target).await?;
    Ok(format!("switchover to {target} asked for"))
}

/// What `kubectl cnpg promote` does.
async fn promote(scene: &Scene<'_>, target: &str) -> Result<()> {
    let now = jiff::Timestamp::now().to_string();
    let patch = json!({"status": {"targetPrimary": target, "targetPrimaryTimestamp": now,
        "phase": "Switchover in progress", "phaseReason": format!("Switching over to {target}")}});
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let clusters = scene.stack.clusters();
    clusters.patch_status(CLUSTER, &params, &Patch::Merge(patch)).await.context("cannot ask for a switchover")?;
    Ok(())
}

async fn double_fault(scene: &Scene<'_>) -> Result<String> {
    let standby = &scene.standbys[0];
    scene.observer.note(Kind::Injected, format!("pods {} and {standby} deleted", scene.primary));
    tokio::try_join!(kill(scene, &scene.primary, 0), kill(scene, standby, 0))?;
    Ok(format!("pods {} and {standby} deleted", scene.primary))
}

async fn rolling_restart(scene: &Scene<'_>) -> Result<String> {
    // What `kubectl cnpg restart` does.
    let now = jiff::Timestamp::now().to_string();
    scene.stack.patch(&json!({"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": now}}})).await?;
    Ok("restart of every instance asked for".into())
}

async fn operator_replicas(scene: &Scene<'_>) -> Result<Vec<Undo>> {
    let deployments: Api<k8s_openapi::api::apps::v1::Deployment> =
        Api::namespaced(scene.stack.kube.client(), OPERATOR_NAMESPACE);
    let operator = deployments.get(OPERATOR).await.context("cannot read the operator's Deployment")?;
    let replicas = operator.spec.and_then(|spec| spec.replicas).unwrap_or(1).max(1);
    Ok(vec![Undo::Scale { namespace: OPERATOR_NAMESPACE.into(), name: OPERATOR.into(), replicas }])
}

async fn operator_down(scene: &Scene<'_>) -> Result<String> {
    record::scale(scene.stack, OPERATOR_NAMESPACE, OPERATOR, 0).await?;
    let pods: Api<Pod> = Api::namespaced(scene.stack.kube.client(), OPERATOR_NAMESPACE);
    let operator = ListParams::default().labels("app.kubernetes.io/name=cloudnative-pg");
    poll("the operator's pod does not go", async || Ok(pods.list(&operator).await?.items.is_empty())).await?;
    kill(scene, &scene.primary, 1).await
}

async fn operator_back(scene: &Scene<'_>) -> Result<()> {
    tokio::time::sleep(Duration::from_secs(10)).await;
    scene.observer.note(Kind::Note, "the operator is brought back");
    // The same as undoing it, which will find it done.
    record::scale(scene.stack, OPERATOR_NAMESPACE, OPERATOR, 1).await
}

async fn lose_volume(scene: &Scene<'_>) -> Result<String> {
    let claims = scene.stack.api::<PersistentVolumeClaim>();
    scene.observer.note(Kind::Injected, format!("volume claim and pod {} deleted", scene.primary));
    claims.delete(&scene.primary, &DeleteParams::default()).await.context("cannot delete the volume claim")?;
    kill(scene, &scene.primary, 0).await?;
    Ok(format!("volume claim and pod {} deleted", scene.primary))
}

async fn web_pods(scene: &Scene<'_>) -> Result<()> {
    let pods = scene.stack.api::<Pod>();
    let app = ListParams::default().labels(&format!("app.kubernetes.io/name={WEB}"));
    let before = pods.list(&app).await?.items;
    for pod in &before {
        scene.observer.note(Kind::Note, format!("{} is deleted", pod.name_any()));
        pods.delete(&pod.name_any(), &DeleteParams::default()).await?;
        poll("the web app's new pod is not ready", async || {
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

async fn control_undo(scene: &Scene<'_>) -> Result<Vec<Undo>> {
    let cluster = scene.stack.cluster().await?;
    let value = cluster.data.pointer("/spec/postgresql/synchronous").cloned().context("it is not synchronous")?;
    Ok(vec![Undo::Synchronous { value }, Undo::Unfence])
}

/// Everything that keeps an acknowledged write safe is turned off, one after the other.
async fn control(scene: &Scene<'_>) -> Result<String> {
    let stack = scene.stack;
    stack.patch(&json!({"spec": {"postgresql": {"synchronous": null}}})).await?;
    poll("replication stays synchronous", async || {
        let names = stack.psql(&scene.primary, "SHOW synchronous_standby_names").await?;
        Ok(names.trim().is_empty())
    })
    .await?;
    scene.observer.note(Kind::Note, "replication is asynchronous");
    let fenced = serde_json::to_string(&scene.standbys)?;
    stack.patch(&json!({"metadata": {"annotations": {FENCING: fenced}}})).await?;
    poll("the standbys do not stop", async || {
        let sql = "SELECT count(*) FROM pg_stat_replication";
        Ok(stack.psql(&scene.primary, sql).await?.trim() == "0")
    })
    .await?;
    scene.observer.note(Kind::Note, "the standbys are stopped");
    // These writes are acknowledged by the primary alone.
    tokio::time::sleep(Duration::from_secs(5)).await;
    lose_volume(scene).await
}

/// The standbys run again, and the one that has more is told to take over: by itself the operator (1.30) tries
/// to make the primary's new volume from the primary that is gone, and waits for it for good. A standby that
/// has more than the new primary could not follow it.
async fn control_takeover(scene: &Scene<'_>) -> Result<()> {
    record::one(scene.stack, &Undo::Unfence).await?;
    let mut ahead: Option<(Lsn, &str)> = None;
    for standby in &scene.standbys {
        poll("a standby does not answer", async || {
            let sql = "SELECT coalesce(pg_last_wal_replay_lsn()::text, '')";
            let replayed = scene.stack.psql(standby, sql).await.unwrap_or_default();
            let Ok(lsn) = replayed.trim().parse::<Lsn>() else { return Ok(false) };
            if ahead.is_none_or(|(most, _)| lsn > most) {
                ahead = Some((lsn, standby));
            }
            Ok(true)
        })
        .await?;
    }
    let (_, target) = ahead.context("there is no standby")?;
    promote(scene, target).await
}

async fn poll(late: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let all = async {
        loop {
            if holds().await? {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    tokio::time::timeout(STEP, all).await.map_err(|_| timed_out(format!("{late} within {} s", STEP.as_secs())))?
}

/// Whether the fault has been noticed: another pod, one that is not ready, or another target.
pub async fn disturbed(seen: &mut watch::Receiver<Seen>, before: &Seen, limit: Duration) -> bool {
    let before = before.clone();
    wait(seen, limit, move |now| now.pods != before.pods || now.target_primary != before.target_primary).await
}

/// The primary and the standbys of a healthy cluster.
///
/// # Errors
/// The Cluster can't be read.
pub async fn cast(stack: &Stack, primary: &str) -> Result<Vec<String>> {
    let cluster = stack.cluster().await?;
    let all = cluster.data.pointer("/status/instanceNames").and_then(|v| v.as_array()).cloned().unwrap_or_default();
    debug_assert_eq!(text(&cluster, "/status/currentPrimary"), primary);
    Ok(all.iter().filter_map(|v| v.as_str()).filter(|name| *name != primary).map(str::to_owned).collect())
}
