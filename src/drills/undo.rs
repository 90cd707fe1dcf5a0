//! What a drill has changed and must not stay, and how it is undone.

use std::time::Duration;

use ::kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    actions::{
        failover, postgres,
        volumes::{self, Bounded},
    },
    scenarios::disaster,
    target::{MANAGER, Stack},
};
use crate::{
    database,
    error::Result,
    kube::{self, ObjectRef},
    tools::faults,
};

/// The annotation that stops PostgreSQL on instances.
pub const FENCING: &str = "cnpg.io/fencedInstances";

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
    /// Have a standby take over, if the primary is gone with its volume.
    TakeOver {
        /// The primary before the fault.
        from: String,
    },
    /// Let the processes of every instance go on.
    Continue,
    /// Let pods be scheduled to a node again.
    Uncordon {
        /// Its name.
        node: String,
    },
    /// Bring the API server of a node back.
    ApiServer {
        /// Its name, which is that of its container.
        node: String,
    },
    /// Let a node reach the others.
    Rejoin {
        /// Its name, which is that of its container.
        node: String,
    },
    /// Start a node.
    StartNode {
        /// Its name, which is that of its container.
        node: String,
        /// What it knows of other hosts: the engine forgets it.
        hosts: Vec<String>,
    },
    /// Make room on the volume of bounded size.
    MakeRoom {
        /// The volume.
        volume: Bounded,
    },
    /// Replace the instance on the volume of bounded size, and remove the volume.
    BoundedVolume {
        /// The volume.
        volume: Bounded,
    },
    /// Restore the database that is lost, and have the app use it.
    Restore {
        /// The database that is lost.
        lost: String,
        /// The new database's name.
        name: String,
    },
}

/// Undoes what needs no API server; anything else is left to [`one`].
///
/// # Errors
/// The engine's, or the node's.
pub async fn past_the_api(undo: &Undo) -> Result<()> {
    match undo {
        Undo::ApiServer { node } => faults::start_api_server(node).await,
        Undo::Rejoin { node } => faults::rejoin(node).await,
        Undo::StartNode { node, hosts } => faults::start_node(node, hosts).await,
        Undo::MakeRoom { volume } => faults::make_room(&volume.node, &volume.folder).await,
        _ => Ok(()),
    }
}

/// Undoes one change.
///
/// # Errors
/// The API's, that of a command in a pod, or the engine's.
pub async fn one(stack: &Stack, undo: &Undo) -> Result<()> {
    match undo {
        Undo::Scale { namespace, name, replicas } => scale(stack, namespace, name, *replicas).await,
        Undo::Synchronous { value } => stack.patch(&json!({"spec": {"postgresql": {"synchronous": value}}})).await,
        Undo::Unfence => stack.patch(&json!({"metadata": {"annotations": {FENCING: null}}})).await,
        Undo::TakeOver { from } => failover::from(stack, from).await,
        Undo::Continue => {
            // A pod that is gone, or was made again, has nothing that stands still.
            let instances = ListParams::default().labels(&database::instances(&stack.database.get()));
            for pod in stack.api::<Pod>().list(&instances).await?.items {
                let running = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
                if running && pod.metadata.deletion_timestamp.is_none() {
                    signal(stack, &pod.name_any(), "CONT").await?;
                }
            }
            Ok(())
        }
        Undo::Uncordon { node } => cordon(stack, node, false).await,
        Undo::BoundedVolume { volume } => volumes::remove(stack, volume).await,
        Undo::Restore { lost, name } => disaster::bring_back(stack, lost, name, &|_| {}).await,
        Undo::ApiServer { .. } | Undo::Rejoin { .. } | Undo::StartNode { .. } | Undo::MakeRoom { .. } => {
            past_the_api(undo).await
        }
    }
}

/// Scales a Deployment.
///
/// # Errors
/// The API's.
pub async fn scale(stack: &Stack, namespace: &str, name: &str, replicas: i32) -> Result<()> {
    let deployment = ObjectRef::namespaced("apps/v1", "Deployment", namespace, name);
    kube::scale(&stack.kube, &deployment, replicas.into(), MANAGER).await
}

/// Keeps new pods off a node, or lets them come again.
///
/// # Errors
/// The API's.
pub async fn cordon(stack: &Stack, node: &str, unschedulable: bool) -> Result<()> {
    let nodes: Api<Node> = Api::all(stack.kube.client());
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({"spec": {"unschedulable": unschedulable}}));
    nodes.patch(node, &params, &patch).await.with_context(|| format!("cannot change the node {node}"))?;
    Ok(())
}

/// Shell: the postmaster, from the first line of its pid file, and its children in front of it.
const PROCESSES: &str = "p=$(head -n1 \"$PGDATA/postmaster.pid\") || exit 0; all=$(for f in /proc/[0-9]*/stat; do \
     set -- $(cat \"$f\" 2>/dev/null); [ \"$4\" = \"$p\" ] && echo \"$1\"; done; echo \"$p\")";

/// Sends a signal to every PostgreSQL process of an instance.
///
/// # Errors
/// As [`postgres::run`].
pub async fn signal(stack: &Stack, pod: &str, signal: &str) -> Result<()> {
    sh(stack, pod, &format!("{PROCESSES}; kill -{signal} $all 2>/dev/null; true")).await
}

/// Stops every PostgreSQL process of an instance where it is. After `limit` they go on, should nobody tell them
/// to before: the pod itself sees to it.
///
/// # Errors
/// As [`postgres::run`].
pub async fn freeze(stack: &Stack, pod: &str, limit: Duration) -> Result<()> {
    let go_on = format!("sleep {}; kill -CONT $0 $*", limit.as_secs());
    let script = format!(
        "{PROCESSES}; setsid sh -c '{go_on}' $all >/dev/null 2>&1 </dev/null & kill -STOP $all 2>/dev/null; true"
    );
    sh(stack, pod, &script).await
}

async fn sh(stack: &Stack, pod: &str, script: &str) -> Result<()> {
    let limit = Duration::from_secs(15);
    postgres::run(&stack.kube, &stack.namespace, pod, &["sh", "-c", script], limit).await.map(drop)
}
