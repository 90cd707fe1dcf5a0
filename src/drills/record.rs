//! The record of a running drill, kept in the cluster: whoever comes after a crash finds there what is to be
//! undone. Written before the fault, removed after everything is as it was.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    access, pod,
    stack::{MANAGER, Stack, text},
};
use crate::error::{Result, failed};

/// The ConfigMap's name.
const NAME: &str = "stackctl-drill";
/// The annotation that stops PostgreSQL on instances.
pub const FENCING: &str = "cnpg.io/fencedInstances";
/// For how long undoing is tried: the API server may be away.
const PATIENCE: Duration = Duration::from_secs(90);

/// A change that a drill has made and that must not stay. Undoing twice does no harm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "snake_case")]
pub enum Undo {
    /// Scale a Deployment back.
    Scale {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What it had.
        replicas: i32,
    },
    /// Give the Cluster its synchronous replication back.
    Synchronous {
        /// `spec.postgresql.synchronous` as it was.
        value: Value,
    },
    /// Let PostgreSQL run on every instance.
    Unfence,
    /// Let an instance's processes go on.
    Continue {
        /// Its pod.
        pod: String,
    },
}

/// The record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// The run's name.
    pub run: String,
    /// The scenario's id.
    pub scenario: String,
    /// What is to be undone, the latest last.
    pub undo: Vec<Undo>,
}

/// Writes the record, before the fault.
///
/// # Errors
/// There is one already, or the API's refusal.
pub async fn write(stack: &Stack, running: &Running) -> Result<()> {
    let data = [("drill".to_owned(), serde_json::to_string(running)?)].into();
    let map = ConfigMap {
        metadata: ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() },
        data: Some(data),
        ..ConfigMap::default()
    };
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    stack.api::<ConfigMap>().create(&params, &map).await.context("cannot write the drill's record")?;
    Ok(())
}

/// Undoes what a drill has left behind, and removes its rows, its prober and its record; the run's name.
/// `None`: there was nothing.
///
/// # Errors
/// What can't be undone within 90 s; the record stays, so that the next drill tries again.
pub async fn recover(stack: &Stack) -> Result<Option<String>> {
    let maps = stack.api::<ConfigMap>();
    let found = maps.get_opt(NAME).await.context("cannot look for the record of a drill")?;
    let Some(text) = found.and_then(|map| map.data?.remove("drill")) else { return Ok(None) };
    let running: Running = serde_json::from_str(&text).context("the record of a drill can't be read")?;
    let undoing = async {
        loop {
            match undo_all(stack, &running).await {
                Ok(()) => return,
                Err(error) => tracing::debug!("cannot undo yet: {error:#}"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, undoing).await.is_err() {
        let error = undo_all(stack, &running).await.err().map(|error| format!("{error:#}")).unwrap_or_default();
        return Err(failed(format!("the drill {} can't be undone: {error}", running.run))
            .remedy("stackctl failover-drill tries again before it does anything else")
            .into());
    }
    maps.delete(NAME, &DeleteParams::default()).await.context("cannot remove the drill's record")?;
    Ok(Some(running.run))
}

async fn undo_all(stack: &Stack, running: &Running) -> Result<()> {
    for undo in running.undo.iter().rev() {
        one(stack, undo).await?;
    }
    pod::delete(stack).await?;
    let cluster = stack.cluster().await?;
    stack.clean(text(&cluster, "/status/currentPrimary"), &running.run).await
}

/// Undoes one change.
///
/// # Errors
/// The API's, or that of a command in a pod.
pub async fn one(stack: &Stack, undo: &Undo) -> Result<()> {
    match undo {
        Undo::Scale { namespace, name, replicas } => scale(stack, namespace, name, *replicas).await,
        Undo::Synchronous { value } => stack.patch(&json!({"spec": {"postgresql": {"synchronous": value}}})).await,
        Undo::Unfence => stack.patch(&json!({"metadata": {"annotations": {FENCING: null}}})).await,
        Undo::Continue { pod } => {
            // A pod that is gone has no process to go on.
            if stack.api::<Pod>().get_opt(pod).await?.is_some() {
                signal(stack, pod, "CONT").await?;
            }
            Ok(())
        }
    }
}

/// Scales a Deployment.
///
/// # Errors
/// The API's.
pub async fn scale(stack: &Stack, namespace: &str, name: &str, replicas: i32) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(stack.kube.client(), namespace);
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    deployments.patch_scale(name, &params, &patch).await.with_context(|| format!("cannot scale {name}"))?;
    Ok(())
}

/// Sends a signal to every PostgreSQL process of an instance.
///
/// # Errors
/// As [`access::run`].
pub async fn signal(stack: &Stack, pod: &str, signal: &str) -> Result<()> {
    // The postmaster is the first line of its pid file; the others are its children.
    let script = format!(
        "p=$(head -n1 \"$PGDATA/postmaster.pid\") || exit 0; for f in /proc/[0-9]*/stat; do set -- $(cat \"$f\" 2>/dev/null); \
         [ \"$4\" = \"$p\" ] && echo \"$1\"; done | xargs -r kill -{signal} 2>/dev/null; kill -{signal} \"$p\"; true"
    );
    let limit = Duration::from_secs(15);
    access::run(&stack.kube, &stack.namespace, pod, &["sh", "-c", &script], limit).await.map(drop)
}
