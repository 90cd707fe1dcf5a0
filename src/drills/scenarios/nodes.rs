//! Whole nodes: lost, drained, cut off.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Scenario, Text, Workload,
    fault::{Fault, FaultStep, RunContext, Setup},
};
use crate::{
    drills::{
        actions::{
            nodes,
            pods::{node_of, nodes_of},
            switchover::make_primary,
        },
        model::{
            expectation::{Expectation, PrimaryRole},
            requirement::Requirement,
        },
        preconditions::ensure_drillable,
        undo::Undo,
    },
    error::{Result, failed},
    names::{OPERATOR, POSTGRES, selector},
    tools::{docker, faults},
};

/// How long a failover from a node may take that tells nobody that it is gone.
const FAILOVER: Duration = Duration::from_secs(150);
/// The fault stays for so long after the failover: writes must have gone on without the node.
const AFTERWARDS: Duration = Duration::from_secs(15);
/// After this long the node itself undoes its isolation, whatever became of the drill.
const CUT_OFF_AT_MOST: Duration = Duration::from_secs(300);

pub static NODE_KILL: Scenario = Scenario {
    id: "node-kill",
    text: Text {
        title: "The primary's node dies",
        does: "kills the node of the primary (not the control plane's, nor that of the only operator) with every process on it at once; what the kernel had not written \
               yet is not lost, as it would be in a power failure",
        must: "a standby on another node is promoted, writes resume without the node",
        undone: "the node is started again",
    },
    requires: Requirement::NodesInContainers,
    workload: Workload::DEFAULT,
    expect: Expectation { primary: PrimaryRole::Moves, ..Expectation::DEFAULT },
    fault: &NodeKill,
};

pub static NODE_DRAIN: Scenario = Scenario {
    id: "node-drain",
    text: Text {
        title: "The primary's node is drained",
        does: "cordons the primary's node and evicts the stack's pods from it, as for maintenance",
        must: "the primary's role moves before its pod is evicted, nothing acknowledged is lost",
        undone: "the node is uncordoned",
    },
    requires: Requirement::Nodes,
    workload: Workload::DEFAULT,
    expect: Expectation { primary: PrimaryRole::Moves, ..Expectation::DEFAULT },
    fault: &NodeDrain,
};

pub static PARTITION: Scenario = Scenario {
    id: "partition",
    text: Text {
        title: "The primary's node is cut off",
        does: "drops every packet between the primary's node (not the control plane's) and the others, and goes on \
               trying to write on the primary that is cut off",
        must: "the primary that is cut off acknowledges nothing more, a standby takes over",
        undone: "the packet filter's rules are removed; after 5 min the node does so by itself",
    },
    requires: Requirement::NodesInContainers,
    workload: Workload::DEFAULT,
    expect: Expectation { primary: PrimaryRole::Moves, ..Expectation::DEFAULT },
    fault: &Partition,
};

pub static ZONE_LOSS: Scenario = Scenario {
    id: "zone-loss",
    text: Text {
        title: "The primary's zone is lost",
        does: "kills every node of the primary's zone at once (not the control plane's, nor that of the only operator)",
        must: "a standby in another zone is promoted, writes resume without the zone",
        undone: "the zone's nodes are started again",
    },
    requires: Requirement::ZonesInContainers,
    workload: Workload::DEFAULT,
    expect: Expectation { primary: PrimaryRole::Moves, ..Expectation::DEFAULT },
    fault: &ZoneLoss,
};

/// Moves the primary to a node that may go away: see [`kept_nodes`].
async fn move_primary_to_worker(setup: &Setup<'_>) -> Result<()> {
    let kept = kept_nodes(setup).await?;
    move_primary_off(setup, &kept).await
}

/// The nodes that stay: the control plane's, with the name service, and that of an operator that is the only one. What is
/// measured is the loss of a database's node, not of what watches it.
async fn kept_nodes(setup: &Setup<'_>) -> Result<Vec<String>> {
    let target = setup.target;
    let mut kept = setup.cluster.control_plane.clone();
    let namespace = &target.kube.operator().await?.namespace;
    let operators: BTreeSet<_> = nodes_of(target, namespace, &selector(OPERATOR)).await?.into_iter().collect();
    if operators.len() == 1 {
        kept.extend(operators);
    }
    Ok(kept)
}

/// Moves the primary to a node that is none of `kept`, if it is on one of them.
async fn move_primary_off(setup: &Setup<'_>, kept: &[String]) -> Result<()> {
    let target = setup.target;
    let primary = ensure_drillable(target).await?;
    if !kept.contains(&node_of(target, &primary).await?) {
        return Ok(());
    }
    for standby in target.standbys(&primary).await? {
        if !kept.contains(&node_of(target, &standby).await?) {
            return make_primary(target, &standby).await;
        }
    }
    Err(failed("no instance is on a node that may go away: each is on the control plane's or on the operator's")
        .remedy("spread the instances over more nodes")
        .into())
}

struct NodeKill;

impl Fault for NodeKill {
    fn prepare<'a>(&'a self, setup: &'a mut Setup<'_>) -> FaultStep<'a> {
        Box::pin(move_primary_to_worker(setup))
    }

    fn undo_plan<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a, Vec<Undo>> {
        Box::pin(
            async move { Ok(vec![Undo::StartNode { node: run.node.clone(), hosts: faults::hosts(&run.node).await? }]) },
        )
    }

    fn inject<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            run.mark_injection(format!("the node {} is killed", run.node));
            docker::kill(std::slice::from_ref(&run.node)).await
        })
    }

    fn hold<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            run.wait_for_failover(FAILOVER).await;
            tokio::time::sleep(AFTERWARDS).await;
            Ok(())
        })
    }
}

struct ZoneLoss;

impl Fault for ZoneLoss {
    fn prepare<'a>(&'a self, setup: &'a mut Setup<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            let kept = kept_nodes(setup).await?;
            let kept: Vec<String> = kept.iter().flat_map(|node| setup.cluster.zone_of(node)).collect();
            move_primary_off(setup, &kept).await?;
            ensure_spread(setup).await
        })
    }

    fn undo_plan<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a, Vec<Undo>> {
        Box::pin(async move {
            let mut changes = Vec::new();
            for node in run.cluster.zone_of(&run.node) {
                changes.push(Undo::StartNode { hosts: faults::hosts(&node).await?, node });
            }
            Ok(changes)
        })
    }

    fn inject<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            let lost = run.cluster.zone_of(&run.node);
            run.mark_injection(format!("the zone of {} is lost: {}", run.primary, lost.join(", ")));
            docker::kill(&lost).await
        })
    }

    fn hold<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        NodeKill.hold(run)
    }
}

/// Refuses a database of which more than one instance is in the primary's zone: the others might not be enough to tell which
/// commits were acknowledged, and nobody would be promoted.
async fn ensure_spread(setup: &Setup<'_>) -> Result<()> {
    let target = setup.target;
    let primary = target.primary().await?;
    let lost = setup.cluster.zone_of(&node_of(target, &primary).await?);
    let mut beside = Vec::new();
    for standby in target.standbys(&primary).await? {
        if lost.contains(&node_of(target, &standby).await?) {
            beside.push(standby);
        }
    }
    if beside.is_empty() {
        return Ok(());
    }
    Err(failed(format!("the instances are not spread over the zones: {} in that of {primary}", beside.join(", ")))
        .remedy("an instance moves when its node is drained, or its volume and pod are deleted: kubectl cnpg destroy")
        .remedy("stackctl status shows each instance's zone")
        .into())
}

struct NodeDrain;

impl Fault for NodeDrain {
    fn prepare<'a>(&'a self, setup: &'a mut Setup<'_>) -> FaultStep<'a> {
        Box::pin(move_primary_to_worker(setup))
    }

    fn undo_plan<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a, Vec<Undo>> {
        Box::pin(async move { Ok(vec![Undo::Uncordon { node: run.node.clone() }]) })
    }

    fn inject<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            run.mark_injection(format!("the node {} is drained", run.node));
            nodes::cordon(run.target, &run.node, true).await
        })
    }

    fn hold<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            nodes::drain(run.target, &run.node).await?;
            run.note("the node is empty of the stack's pods");
            tokio::time::sleep(AFTERWARDS).await;
            Ok(())
        })
    }
}

struct Partition;

impl Fault for Partition {
    fn prepare<'a>(&'a self, setup: &'a mut Setup<'_>) -> FaultStep<'a> {
        Box::pin(move_primary_to_worker(setup))
    }

    fn undo_plan<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a, Vec<Undo>> {
        Box::pin(async move { Ok(vec![Undo::Rejoin { node: run.node.clone() }]) })
    }

    fn inject<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            run.mark_injection(format!("the node {} is cut off", run.node));
            faults::isolate(&run.node, CUT_OFF_AT_MOST).await
        })
    }

    fn hold<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(try_to_write(run))
    }
}

/// What came of attempts to write on the primary that is cut off.
#[derive(Debug, Default)]
struct WriteAttempts {
    acknowledged: u32,
    unanswered: u32,
    down: u32,
}

/// The prober's writes can't reach that primary any more; an application on its node could, and must not be
/// told that its writes are safe.
async fn try_to_write(run: &RunContext<'_>) -> Result<()> {
    let mut attempts = WriteAttempts::default();
    let until = async {
        run.wait_for_failover(FAILOVER).await;
        tokio::time::sleep(AFTERWARDS).await;
    };
    let trying = async {
        loop {
            attempt(run, &mut attempts).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let ended: Result<()> = tokio::select! {
        () = until => Ok(()),
        ended = trying => ended,
    };
    ended?;
    let WriteAttempts { acknowledged, unanswered, down } = attempts;
    let tried = acknowledged + unanswered + down;
    let detail =
        format!("{tried} attempts: {acknowledged} acknowledged, {unanswered} unanswered, {down} found it down");
    run.found("the primary that is cut off acknowledges nothing", acknowledged == 0 && unanswered + down > 0, detail);
    Ok(())
}

async fn attempt(run: &RunContext<'_>, attempts: &mut WriteAttempts) -> Result<()> {
    // The client gives up after 3 s: an answer that comes is one that a client would have got.
    let sql = "INSERT INTO stackctl_drill.writes (run, key) VALUES ('cut-off', 0)";
    let command =
        format!("sh -c 'timeout 3 psql -XAtq -U postgres -d app -c \"{}\"; echo ended $?'", sql.replace('\'', "'\\''"));
    let said = faults::in_container(&run.node, &run.target.namespace, &run.primary, POSTGRES, &command).await?;
    match said.as_deref().map(str::trim_end) {
        Some(said) if said.ends_with("ended 0") && !said.contains("WARNING") => attempts.acknowledged += 1,
        Some(said) if said.ends_with("ended 0") || said.ends_with("ended 124") => attempts.unanswered += 1,
        _ => attempts.down += 1,
    }
    Ok(())
}
