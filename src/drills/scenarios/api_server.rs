//! The API server goes away.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt as _, api::ListParams};

use super::{
    Scenario, Text, Workload,
    fault::{Fault, FaultStep, RunContext},
};
use crate::{
    drills::{
        actions::wait_until,
        model::{
            expectation::{Expectation, PrimaryRole},
            requirement::Requirement,
        },
        undo::{Undo, undo_without_api_server},
    },
    error::{Result, failed},
    kube::cnpg,
    tools::faults,
};

/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(20);
/// After this long the node itself brings it back, whatever became of the drill.
const AWAY_AT_MOST: Duration = Duration::from_secs(60);
/// How long the API server may take to answer again.
const BACK: Duration = Duration::from_secs(90);
/// After its return, how long until an instance is evicted whose node is still held for lost: seconds until that is noticed, and
/// the time that the instances' toleration says.
const EVICTED: Duration = Duration::from_secs(20);

pub static API_SERVER_DOWN: Scenario = Scenario {
    id: "api-server-down",
    text: Text {
        title: "The API server is away",
        does: "stops the API server of a cluster with one control plane node for 20 s",
        must: "writes go on, the primary stays, and no instance is replaced",
        undone: "its manifest is put back where the kubelet looks for it; after 60 s the node does so by itself",
    },
    requires: Requirement::Containers,
    // The prober's orders come through the API server: it must have them all beforehand.
    workload: Workload { lead_time: Duration::from_secs(150), ..Workload::DEFAULT },
    expect: Expectation { primary: PrimaryRole::Stays, uninterrupted: true, ..Expectation::DEFAULT },
    fault: &ApiServerDown,
};

struct ApiServerDown;

impl Fault for ApiServerDown {
    fn undo_plan<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a, Vec<Undo>> {
        Box::pin(async move { Ok(vec![Undo::ApiServer { node: node(run)?.into() }]) })
    }

    fn inject<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(async move {
            let node = node(run)?;
            run.mark_injection(format!("the API server on {node} is stopped"));
            faults::stop_api_server(node, AWAY_AT_MOST).await
        })
    }

    fn hold<'a>(&'a self, run: &'a RunContext<'_>) -> FaultStep<'a> {
        Box::pin(bring_back(run))
    }
}

fn node<'a>(run: &'a RunContext<'_>) -> Result<&'a str> {
    let found = &run.cluster.control_plane;
    match found.as_slice() {
        [node] => Ok(node),
        _ => Err(failed(format!("{} nodes are marked as the control plane's: it takes one", found.len())).into()),
    }
}

/// Brings the API server back by its node: the drill's own way to the prober is broken as well.
async fn bring_back(run: &RunContext<'_>) -> Result<()> {
    let kube = &run.target.kube;
    let before = run.instances();
    tokio::time::sleep(AWAY).await;
    // A request that is tried again for a while would only prolong the fault.
    let answer = tokio::time::timeout(Duration::from_secs(2), kube.version()).await;
    let away = !matches!(answer, Ok(Ok(_)));
    run.found("the API server is away", away, format!("asked for its version after {} s", AWAY.as_secs()));
    undo_without_api_server(&Undo::ApiServer { node: node(run)?.into() }).await?;
    run.note("the API server's manifest is back");
    wait_until(BACK, "the API server does not answer", || async { Ok(kube.version().await.is_ok()) }).await?;
    // A node of which nothing is heard yet counts as lost.
    tokio::time::sleep(EVICTED).await;
    // Not by the watches: they may wait for up to half a minute before they begin anew.
    let selected = ListParams::default().labels(&cnpg::instances(&run.target.database.get()));
    let found = run.target.api::<Pod>().list(&selected).await.context("cannot list the instances' pods")?;
    let stays = |(name, uid): &(&String, &String)| {
        let pod = found.items.iter().find(|pod| pod.name_any() == **name && pod.uid().as_ref() == Some(*uid));
        pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_none())
    };
    let replaced: Vec<_> = before.iter().filter(|pod| !stays(pod)).map(|(name, _)| name.as_str()).collect();
    let detail = if replaced.is_empty() { "the same pods as before".into() } else { replaced.join(", ") };
    run.found("no instance is replaced", replaced.is_empty(), detail);
    Ok(())
}
