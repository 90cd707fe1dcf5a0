//! Whole nodes: lost, drained, cut off.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{EvictParams, ListParams},
};

use super::{
    COMMON, Role, Scenario, Scene, Stage,
    operator::{OPERATOR_NAMESPACE, OPERATOR_PODS},
};
use crate::drills::actions::switchover::{cast, make_primary, moved, node_of, poll};
use crate::{
    drills::{
        actions::postgres::CONTAINER,
        model::events::Kind,
        model::requirement::Needs,
        undo::{Undo, cordon},
    },
    error::{Result, failed},
    tools::{docker, faults},
};

/// How long a failover from a node may take that tells nobody that it is gone.
const FAILOVER: Duration = Duration::from_secs(150);
/// The fault stays for so long after the failover: writes must have gone on without the node.
const AFTERWARDS: Duration = Duration::from_secs(15);
/// After this long the node itself undoes its isolation, whatever became of the drill.
const CUT_OFF_AT_MOST: Duration = Duration::from_secs(300);
/// How long evictions may take: the primary's has to wait for the switchover.
const DRAIN: Duration = Duration::from_secs(120);

pub static NODE_KILL: Scenario = Scenario {
    id: "node-kill",
    title: "The primary's node dies",
    does: "kills the node of the primary (not the control plane's, nor the operator's), as a power failure would",
    must: "a standby on another node is promoted, writes resume without the node",
    undone: "the node is started again",
    needs: Needs::NodesInContainers,
    role: Role::Moves,
    prepare: |stage| Box::pin(primary_on_a_worker(stage)),
    undo: |s| Box::pin(start_again(s)),
    inject: |s| Box::pin(kill(s)),
    then: |s| Box::pin(wait_for_failover(s)),
    ..COMMON
};

pub static NODE_DRAIN: Scenario = Scenario {
    id: "node-drain",
    title: "The primary's node is drained",
    does: "cordons the primary's node and evicts the stack's pods from it, as for maintenance",
    must: "the primary's role moves before its pod is evicted, nothing acknowledged is lost",
    undone: "the node is uncordoned",
    needs: Needs::Nodes,
    role: Role::Moves,
    prepare: |stage| Box::pin(primary_on_a_worker(stage)),
    undo: |s| Box::pin(async { Ok(vec![Undo::Uncordon { node: s.node.clone() }]) }),
    inject: |s| Box::pin(start_drain(s)),
    then: |s| Box::pin(drain(s)),
    ..COMMON
};

pub static PARTITION: Scenario = Scenario {
    id: "partition",
    title: "The primary's node is cut off",
    does: "drops every packet between the primary's node (not the control plane's) and the others, and goes on \
           trying to write on the primary that is cut off",
    must: "the primary that is cut off acknowledges nothing more, a standby takes over",
    undone: "the packet filter's rules are removed; after 5 min the node does so by itself",
    needs: Needs::NodesInContainers,
    role: Role::Moves,
    prepare: |stage| Box::pin(primary_on_a_worker(stage)),
    undo: |s| Box::pin(async { Ok(vec![Undo::Rejoin { node: s.node.clone() }]) }),
    inject: |s| Box::pin(cut_off(s)),
    then: |s| Box::pin(try_to_write(s)),
    ..COMMON
};

/// The control plane stays, and so do the operator and the name service: what is measured is the loss of a
/// database's node, not of what watches it.
async fn primary_on_a_worker(stage: &mut Stage<'_>) -> Result<()> {
    let stack = stage.stack;
    let mut kept = stage.ground.control_plane.clone();
    kept.extend(nodes_of(stage, OPERATOR_NAMESPACE, OPERATOR_PODS).await?);
    let primary = stack.fit().await?;
    if !kept.contains(&node_of(stack, &primary).await?) {
        return Ok(());
    }
    for standby in cast(stack, &primary).await? {
        if !kept.contains(&node_of(stack, &standby).await?) {
            return make_primary(stack, &standby).await;
        }
    }
    Err(failed("no instance is on a node that may go away: each is on the control plane's or on the operator's")
        .remedy("spread the instances over more nodes")
        .into())
}

async fn nodes_of(stage: &Stage<'_>, namespace: &str, labels: &str) -> Result<Vec<String>> {
    let pods: Api<Pod> = Api::namespaced(stage.stack.kube.client(), namespace);
    let found = pods.list(&ListParams::default().labels(labels)).await.context("cannot list pods")?;
    Ok(found.items.into_iter().filter_map(|pod| pod.spec?.node_name).collect())
}

async fn start_again(scene: &Scene<'_>) -> Result<Vec<Undo>> {
    Ok(vec![Undo::StartNode { node: scene.node.clone(), hosts: faults::hosts(&scene.node).await? }])
}

async fn kill(scene: &Scene<'_>) -> Result<String> {
    let what = format!("the node {} is killed", scene.node);
    scene.observer.note(Kind::Injected, &what);
    docker::kill(&scene.node).await?;
    Ok(what)
}

async fn wait_for_failover(scene: &Scene<'_>) -> Result<()> {
    moved(scene, FAILOVER).await;
    tokio::time::sleep(AFTERWARDS).await;
    Ok(())
}

async fn start_drain(scene: &Scene<'_>) -> Result<String> {
    let what = format!("the node {} is drained", scene.node);
    scene.observer.note(Kind::Injected, &what);
    cordon(scene.stack, &scene.node, true).await?;
    Ok(what)
}

async fn drain(scene: &Scene<'_>) -> Result<()> {
    let pods = scene.stack.api::<Pod>();
    let here = ListParams::default().fields(&format!("spec.nodeName={}", scene.node));
    poll(DRAIN, &format!("the node {} is not drained", scene.node), async || {
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
    .await?;
    scene.observer.note(Kind::Note, "the node is empty of the stack's pods");
    tokio::time::sleep(AFTERWARDS).await;
    Ok(())
}

fn belongs_to_the_node(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    pod.owner_references().iter().any(|owner| owner.kind == "DaemonSet" || owner.kind == "Node")
        || matches!(phase, "Succeeded" | "Failed")
}

async fn cut_off(scene: &Scene<'_>) -> Result<String> {
    let what = format!("the node {} is cut off", scene.node);
    scene.observer.note(Kind::Injected, &what);
    faults::isolate(&scene.node, CUT_OFF_AT_MOST).await?;
    Ok(what)
}

/// What came of attempts to write on the primary that is cut off.
#[derive(Debug, Default)]
struct Attempts {
    acknowledged: u32,
    unanswered: u32,
    down: u32,
}

/// The prober's writes can't reach that primary any more; an application on its node could, and must not be
/// told that its writes are safe.
async fn try_to_write(scene: &Scene<'_>) -> Result<()> {
    let mut attempts = Attempts::default();
    let until = async {
        moved(scene, FAILOVER).await;
        tokio::time::sleep(AFTERWARDS).await;
    };
    let trying = async {
        loop {
            attempt(scene, &mut attempts).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let ended: Result<()> = tokio::select! {
        () = until => Ok(()),
        ended = trying => ended,
    };
    ended?;
    let Attempts { acknowledged, unanswered, down } = attempts;
    let tried = acknowledged + unanswered + down;
    let detail =
        format!("{tried} attempts: {acknowledged} acknowledged, {unanswered} unanswered, {down} found it down");
    scene.found("the primary that is cut off acknowledges nothing", acknowledged == 0 && unanswered + down > 0, detail);
    Ok(())
}

async fn attempt(scene: &Scene<'_>, attempts: &mut Attempts) -> Result<()> {
    // The client gives up after 3 s: an answer that comes is one that a client would have got.
    let sql = "INSERT INTO stackctl_drill.writes (run, key) VALUES ('cut-off', 0)";
    let command =
        format!("sh -c 'timeout 3 psql -XAtq -U postgres -d app -c \"{}\"; echo ended $?'", sql.replace('\'', "'\\''"));
    let said = faults::in_container(&scene.node, &scene.stack.namespace, &scene.primary, CONTAINER, &command).await?;
    match said.as_deref().map(str::trim_end) {
        Some(said) if said.ends_with("ended 0") && !said.contains("WARNING") => attempts.acknowledged += 1,
        Some(said) if said.ends_with("ended 0") || said.ends_with("ended 124") => attempts.unanswered += 1,
        _ => attempts.down += 1,
    }
    Ok(())
}
