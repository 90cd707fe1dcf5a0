//! The negative control: a checker that never found anything proves nothing.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::time::timeout;

use super::{COMMON, Role, Scenario, Scene, storage::lose_volume};
use crate::drills::actions::switchover::soon;
use crate::{
    drills::{
        model::events::Kind,
        undo::{self, Undo},
    },
    error::{Result, timed_out},
};

/// How long the primary stands still at most, should its pod not be deleted.
const STANDS_STILL: Duration = Duration::from_secs(60);
/// How long a standby may take to take over, the time included in which the operator refuses it.
const TAKEN_OVER: Duration = Duration::from_secs(120);

pub static CONTROL: Scenario = Scenario {
    id: "control",
    title: "Negative control: a loss that must be found",
    does: "turns synchronous replication off, stops the standbys, goes on writing, then halts the primary, destroys \
           its volume and lets a standby take over",
    must: "acknowledged writes are lost, and the checker finds it",
    undone: "a standby takes over, synchronous replication is turned on again, the standbys run again",
    role: Role::Moves,
    control: true,
    loses_log: true,
    undo: |s| Box::pin(settings(s)),
    inject: |s| Box::pin(weaken(s)),
    then: |s| Box::pin(take_over(s)),
    ..COMMON
};

async fn settings(scene: &Scene<'_>) -> Result<Vec<Undo>> {
    let cluster = scene.stack.cluster().await?;
    let value = cluster.data.pointer("/spec/postgresql/synchronous").cloned().context("it is not synchronous")?;
    let from = scene.primary.clone();
    Ok(vec![Undo::Synchronous { value }, Undo::Unfence, Undo::TakeOver { from }, Undo::Continue])
}

/// Everything that keeps an acknowledged write safe is turned off, one after the other.
async fn weaken(scene: &Scene<'_>) -> Result<String> {
    let stack = scene.stack;
    stack.patch(&json!({"spec": {"postgresql": {"synchronous": null}}})).await?;
    soon("replication stays synchronous", async || {
        let names = stack.psql(&scene.primary, "SHOW synchronous_standby_names").await?;
        Ok(names.trim().is_empty())
    })
    .await?;
    scene.observer.note(Kind::Note, "replication is asynchronous");
    let fenced = serde_json::to_string(&scene.standbys)?;
    stack.patch(&json!({"metadata": {"annotations": {undo::FENCING: fenced}}})).await?;
    soon("the standbys do not stop", async || {
        let sql = "SELECT count(*) FROM pg_stat_replication";
        Ok(stack.psql(&scene.primary, sql).await?.trim() == "0")
    })
    .await?;
    scene.observer.note(Kind::Note, "the standbys are stopped");
    // The next segment of the log goes to the archive when it is full or a minute old, which is not before the end.
    stack.psql(&scene.primary, "SELECT pg_switch_wal()").await?;
    // These writes are acknowledged by the primary alone.
    tokio::time::sleep(Duration::from_secs(5)).await;
    // A primary that is told to end archives its last segment, if it is fast enough: nothing would be lost.
    undo::freeze(stack, &scene.primary, STANDS_STILL).await?;
    lose_volume(scene).await
}

/// The standbys run again, and the one that has more takes over.
async fn take_over(scene: &Scene<'_>) -> Result<()> {
    let change = Undo::TakeOver { from: scene.primary.clone() };
    let mut last = None;
    let asking = async {
        while let Err(error) = undo::one(scene.stack, &change).await {
            last = Some(error);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    if timeout(TAKEN_OVER, asking).await.is_ok() {
        return Ok(());
    }
    let late = timed_out(format!("no standby takes over within {} s", TAKEN_OVER.as_secs()));
    Err(match last {
        Some(error) => error.context(late),
        None => late.into(),
    })
}
