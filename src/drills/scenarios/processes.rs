//! Processes that are killed or stand still.

use std::time::Duration;

use super::{COMMON, Scenario, Scene};
use crate::drills::actions::switchover::moved;
use crate::{
    drills::{
        actions::postgres::CONTAINER,
        model::events::Kind,
        model::requirement::Needs,
        undo::{self, Undo},
    },
    error::Result,
    tools::faults,
};

/// How long the processes stand still.
const FROZEN: Duration = Duration::from_secs(60);
/// After this long they go on by themselves, whatever became of the drill.
const FROZEN_AT_MOST: Duration = Duration::from_secs(150);

pub static PRIMARY_KILL: Scenario = Scenario {
    id: "primary-kill",
    title: "The primary's container is killed",
    does: "kills every process of the primary's container with SIGKILL, from its node",
    must: "it comes back in place or a standby is promoted",
    undone: "by the kubelet, which starts the container again",
    needs: Needs::Containers,
    inject: |s| Box::pin(kill_container(s)),
    ..COMMON
};

pub static POSTMASTER_CRASH: Scenario = Scenario {
    id: "postmaster-crash",
    title: "PostgreSQL crashes on the primary",
    does: "kills the primary's PostgreSQL processes with SIGKILL, from within its container",
    must: "it recovers in place or a standby is promoted",
    undone: "by the instance manager",
    inject: |s| Box::pin(crash(s)),
    ..COMMON
};

pub static FREEZE: Scenario = Scenario {
    id: "freeze",
    title: "The primary stands still",
    does: "stops the primary's PostgreSQL processes with SIGSTOP for a minute",
    must: "nothing is acknowledged meanwhile, and writes resume at the latest when it goes on: CloudNativePG 1.30 is \
           known not to complete this failover",
    undone: "SIGCONT",
    undo: |_| Box::pin(async { Ok(vec![Undo::Continue]) }),
    inject: |s| Box::pin(freeze(s)),
    then: |s| Box::pin(stay_frozen(s)),
    ..COMMON
};

async fn kill_container(scene: &Scene<'_>) -> Result<String> {
    let what = format!("the container of {} killed", scene.primary);
    scene.observer.note(Kind::Injected, &what);
    faults::kill_container(&scene.node, &scene.stack.namespace, &scene.primary, CONTAINER).await?;
    Ok(what)
}

async fn crash(scene: &Scene<'_>) -> Result<String> {
    let what = format!("PostgreSQL killed on {}", scene.primary);
    scene.observer.note(Kind::Injected, &what);
    undo::signal(scene.stack, &scene.primary, "KILL").await?;
    Ok(what)
}

async fn freeze(scene: &Scene<'_>) -> Result<String> {
    let what = format!("PostgreSQL stands still on {}", scene.primary);
    scene.observer.note(Kind::Injected, &what);
    undo::freeze(scene.stack, &scene.primary, FROZEN_AT_MOST).await?;
    Ok(what)
}

/// What the operator makes of it is noted, and is no reason to fail.
async fn stay_frozen(scene: &Scene<'_>) -> Result<()> {
    let end = tokio::time::Instant::now() + FROZEN;
    let what = if moved(scene, FROZEN).await { "completed" } else { "did not complete" };
    scene.found("the outcome is recorded", true, format!("the failover {what} while the primary stood still"));
    tokio::time::sleep_until(end).await;
    Ok(())
}
