//! The API server goes away.

use std::time::Duration;

use super::{COMMON, Role, Scenario, Scene};
use crate::drills::actions::switchover::poll;
use crate::{
    drills::{
        model::events::Kind,
        model::requirement::Needs,
        undo::{self, Undo},
    },
    error::{Result, failed},
    tools::faults,
};

/// How long it is away.
const AWAY: Duration = Duration::from_secs(20);
/// After this long the node itself brings it back, whatever became of the drill.
const AWAY_AT_MOST: Duration = Duration::from_secs(60);
/// How long it may take to answer again.
const BACK: Duration = Duration::from_secs(90);

pub static API_SERVER_DOWN: Scenario = Scenario {
    id: "api-server-down",
    title: "The API server is away",
    does: "stops the API server of a cluster with one control plane node for 20 s",
    must: "writes go on, and the primary stays",
    undone: "its manifest is put back where the kubelet looks for it; after 60 s the node does so by itself",
    needs: Needs::Containers,
    role: Role::Stays,
    calm: true,
    // The prober's orders come through the API server: it must have them all beforehand.
    ahead: Duration::from_secs(150),
    undo: |s| Box::pin(async { Ok(vec![Undo::ApiServer { node: node(s)?.into() }]) }),
    inject: |s| Box::pin(stop(s)),
    then: |s| Box::pin(start(s)),
    ..COMMON
};

fn node<'a>(scene: &'a Scene<'_>) -> Result<&'a str> {
    let found = &scene.ground.control_plane;
    match found.as_slice() {
        [node] => Ok(node),
        _ => Err(failed(format!("{} nodes are marked as the control plane's: it takes one", found.len())).into()),
    }
}

async fn stop(scene: &Scene<'_>) -> Result<String> {
    let node = node(scene)?;
    scene.observer.note(Kind::Injected, format!("the API server on {node} is stopped"));
    faults::stop_api_server(node, AWAY_AT_MOST).await?;
    Ok(format!("the API server on {node} is stopped"))
}

/// Its node is told, not the API: the drill's own way to the prober is broken as well.
async fn start(scene: &Scene<'_>) -> Result<()> {
    tokio::time::sleep(AWAY).await;
    // A request that is tried again for a while would only prolong the fault.
    let answer = tokio::time::timeout(Duration::from_secs(2), scene.stack.kube.version()).await;
    let away = !matches!(answer, Ok(Ok(_)));
    scene.found("the API server is away", away, format!("asked for its version after {} s", AWAY.as_secs()));
    undo::past_the_api(&Undo::ApiServer { node: node(scene)?.into() }).await?;
    scene.observer.note(Kind::Undone, "the API server's manifest is back");
    poll(BACK, "the API server does not answer", async || Ok(scene.stack.kube.version().await.is_ok())).await
}
