//! Volumes that are lost or full.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::DeleteParams;

use super::{COMMON, Role, Scenario, Scene, Stage};
use crate::drills::actions::switchover::kill;
use crate::{
    drills::{
        actions::{
            postgres,
            volumes::{self, Bounded},
        },
        journal::cluster as record,
        model::events::Kind,
        model::requirement::Needs,
        undo::Undo,
    },
    error::{Result, failed},
    tools::faults,
};

/// How long the disk stays full: long enough for PostgreSQL to need a new segment of its log.
const FULL: Duration = Duration::from_secs(25);

pub static PVC_LOSS: Scenario = Scenario {
    id: "pvc-loss",
    title: "The primary loses its volume",
    does: "deletes the primary's volume claim together with its pod",
    must: "a standby is promoted, a new instance is made from it",
    undone: "by the operator, which makes a new instance; a base backup is taken, as the log that was on the volume only \
             is missing in the archive",
    role: Role::Moves,
    loses_log: true,
    inject: |s| Box::pin(lose_volume(s)),
    ..COMMON
};

pub static DISK_FULL: Scenario = Scenario {
    id: "disk-full",
    title: "The primary's disk is full",
    does: "moves the primary to a volume of 640 MiB in the node's memory beforehand, fills it to the last byte for \
           25 s while its log grows; the node's own disk is not touched",
    must: "writes are refused rather than acknowledged and lost; the operator does not fail over, by design; \
           recovery once there is room",
    undone: "the filler is removed, then the instance is replaced by one on an ordinary volume",
    needs: Needs::Containers,
    prepare: |stage| Box::pin(move_to_bounded_volume(stage)),
    undo: |s| Box::pin(room(s)),
    inject: |s| Box::pin(fill(s)),
    then: |s| Box::pin(press(s)),
    ..COMMON
};

/// Deletes the primary's volume with its pod.
pub async fn lose_volume(scene: &Scene<'_>) -> Result<String> {
    let claims = scene.stack.api::<PersistentVolumeClaim>();
    scene.observer.note(Kind::Injected, format!("volume claim and pod {} deleted", scene.primary));
    claims.delete(&scene.primary, &DeleteParams::default()).await.context("cannot delete the volume claim")?;
    kill(scene, &scene.primary, 0).await?;
    Ok(format!("volume claim and pod {} deleted", scene.primary))
}

async fn move_to_bounded_volume(stage: &mut Stage<'_>) -> Result<()> {
    let stack = stage.stack;
    let volume = Bounded::of_a_standby(stack).await?;
    record::add(stack, &mut stage.running, [Undo::BoundedVolume { volume: volume.clone() }]).await?;
    volumes::make(stack, &volume).await
}

fn bounded(scene: &Scene<'_>) -> Bounded {
    Bounded { node: scene.node.clone(), folder: volumes::FOLDER.into(), instance: scene.primary.clone() }
}

async fn room(scene: &Scene<'_>) -> Result<Vec<Undo>> {
    Ok(vec![Undo::MakeRoom { volume: bounded(scene) }])
}

async fn fill(scene: &Scene<'_>) -> Result<String> {
    let volume = bounded(scene);
    let (stack, df) = (scene.stack, "df -P \"$PGDATA\" | tail -n 1");
    let limit = Duration::from_secs(15);
    let mounted = postgres::run(&stack.kube, &stack.namespace, &scene.primary, &["sh", "-c", df], limit).await?;
    if !mounted.starts_with(faults::BOUNDED) {
        return Err(
            failed(format!("{} is not on the volume of bounded size: {}", scene.primary, mounted.trim())).into()
        );
    }
    scene.observer.note(Kind::Injected, format!("the disk of {} is filled", scene.primary));
    faults::fill(&volume.node, &volume.folder).await?;
    Ok(format!("the disk of {} is full", scene.primary))
}

/// New segments of the log are asked for, as they are by days of writes.
async fn press(scene: &Scene<'_>) -> Result<()> {
    let end = tokio::time::Instant::now() + FULL;
    let mut switched = 0;
    while tokio::time::Instant::now() < end {
        let sql = "SELECT pg_switch_wal()";
        match tokio::time::timeout(Duration::from_secs(3), scene.stack.psql(&scene.primary, sql)).await {
            Ok(Ok(_)) => switched += 1,
            // It is down, or waits for room: that is what was asked for.
            Ok(Err(_)) | Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    scene.observer.note(Kind::Note, format!("{switched} new segments of the log were asked for and made"));
    Ok(())
}
