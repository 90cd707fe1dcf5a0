//! The negative control: a checker that never found anything proves nothing.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use super::{
    COMMON, Role, Scenario, Scene,
    steps::{moved, promote, soon},
    storage::lose_volume,
};
use crate::{
    drills::{
        events::Kind,
        history::Lsn,
        record::{Undo, undo},
    },
    error::{Result, timed_out},
};

/// How often a standby is asked to take over: the operator (1.30) takes the request back where it sees no instance
/// ready, as for a moment after the standbys were stopped. Until one has taken over, replication must not become
/// synchronous again: the operator would then rightly promote nobody.
const ASKED: usize = 12;
/// How long it may take each time.
const ANSWERED: Duration = Duration::from_secs(10);

pub static CONTROL: Scenario = Scenario {
    id: "control",
    title: "Negative control: a loss that must be found",
    does: "turns synchronous replication off, stops the standbys, goes on writing, then destroys the primary's \
           volume and lets a standby take over",
    must: "acknowledged writes are lost, and the checker finds it",
    undone: "synchronous replication is turned on again, the standbys run again",
    role: Role::Moves,
    control: true,
    undo: |s| Box::pin(settings(s)),
    inject: |s| Box::pin(weaken(s)),
    then: |s| Box::pin(take_over(s)),
    ..COMMON
};

async fn settings(scene: &Scene<'_>) -> Result<Vec<Undo>> {
    let cluster = scene.stack.cluster().await?;
    let value = cluster.data.pointer("/spec/postgresql/synchronous").cloned().context("it is not synchronous")?;
    Ok(vec![Undo::Synchronous { value }, Undo::Unfence])
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
    // These writes are acknowledged by the primary alone.
    tokio::time::sleep(Duration::from_secs(5)).await;
    lose_volume(scene).await
}

/// The standbys run again, and the one that has more is told to take over: by itself the operator (1.30) tries
/// to make the primary's new volume from the primary that is gone, and waits for it for good. A standby that
/// has more than the new primary could not follow it.
async fn take_over(scene: &Scene<'_>) -> Result<()> {
    undo::one(scene.stack, &Undo::Unfence).await?;
    let mut ahead: Option<(Lsn, &str)> = None;
    for standby in &scene.standbys {
        soon("a standby does not answer", async || {
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
    for _ in 0..ASKED {
        promote(scene.stack, target).await?;
        if moved(scene, ANSWERED).await {
            return Ok(());
        }
    }
    Err(timed_out(format!("{target} does not become the primary, asked for {ASKED} times")).into())
}
