//! The record of a running drill, kept in the cluster: whoever comes after a crash finds there what is to be
//! undone. Written before the fault, removed after everything is as it was.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    drills::{
        pod,
        target::{MANAGER, Stack, text},
        undo::{self, Undo},
    },
    error::{Result, failed},
};

/// The ConfigMap's name.
const NAME: &str = "stackctl-drill";
/// Its key.
const KEY: &str = "drill";
/// For how long undoing is tried: the API server may be away.
const PATIENCE: Duration = Duration::from_secs(90);

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

/// Writes the record, before anything is changed; on this machine, too: a fault may be that the API is down.
///
/// # Errors
/// There is one already, or the API's refusal.
pub async fn write(stack: &Stack, running: &Running) -> Result<()> {
    stack.machine.write(running)?;
    let data = [(KEY.to_owned(), serde_json::to_string(running)?)].into();
    let map = ConfigMap {
        metadata: ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() },
        data: Some(data),
        ..ConfigMap::default()
    };
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    stack.api::<ConfigMap>().create(&params, &map).await.context("cannot write the drill's record")?;
    Ok(())
}

/// Writes down what else is to be undone, before it is done.
///
/// # Errors
/// The API's refusal.
pub async fn add(stack: &Stack, running: &mut Running, undo: impl IntoIterator<Item = Undo>) -> Result<()> {
    running.undo.extend(undo);
    stack.machine.write(running)?;
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({"data": {KEY: serde_json::to_string(running)?}}));
    stack.api::<ConfigMap>().patch(NAME, &params, &patch).await.context("cannot write the drill's record")?;
    Ok(())
}

/// The record of a drill, if there is one.
///
/// # Errors
/// The API's refusal; a record that can't be read.
pub async fn read(stack: &Stack) -> Result<Option<Running>> {
    let found = stack.api::<ConfigMap>().get_opt(NAME).await.context("cannot look for the record of a drill")?;
    let text = found.and_then(|map| map.data?.remove(KEY));
    text.map(|text| serde_json::from_str(&text).context("the record of a drill can't be read")).transpose()
}

/// Undoes what a drill has left behind, and removes its rows, its prober and its record, which is returned.
/// `None`: there was nothing.
///
/// # Errors
/// What can't be undone within 90 s; the record stays, so that the next drill tries again.
pub async fn recover(stack: &Stack) -> Result<Option<Running>> {
    // First what may be the reason why the API does not answer.
    let patience = if stack.machine.undo().await? { PATIENCE } else { Duration::ZERO };
    let began = Instant::now();
    let found = loop {
        match read(stack).await {
            Err(_) if began.elapsed() < patience => tokio::time::sleep(Duration::from_secs(1)).await,
            found => break found?,
        }
    };
    let Some(running) = found else {
        stack.machine.remove()?;
        return Ok(None);
    };
    let undoing = async {
        loop {
            match undo_all(stack, &running).await {
                Ok(()) => return,
                Err(error) => tracing::debug!("cannot undo yet: {error:#}"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let slow = |undo: &Undo| matches!(undo, Undo::BoundedVolume { .. } | Undo::TakeOver { .. } | Undo::Restore { .. });
    let slow = running.undo.iter().any(slow);
    let patience = if slow { PATIENCE * 5 } else { PATIENCE };
    if tokio::time::timeout(patience, undoing).await.is_err() {
        let error = undo_all(stack, &running).await.err().map(|error| format!("{error:#}")).unwrap_or_default();
        return Err(failed(format!("the drill {} can't be undone: {error}", running.run))
            .remedy("stackctl failover-drill tries again before it does anything else")
            .into());
    }
    stack
        .api::<ConfigMap>()
        .delete(NAME, &DeleteParams::default())
        .await
        .context("cannot remove the drill's record")?;
    stack.machine.remove()?;
    Ok(Some(running))
}

/// Undoes every change, the latest first.
///
/// # Errors
/// As [`undo::one`].
pub async fn undo_changes(stack: &Stack, running: &Running) -> Result<()> {
    for change in running.undo.iter().rev() {
        undo::one(stack, change).await?;
    }
    Ok(())
}

async fn undo_all(stack: &Stack, running: &Running) -> Result<()> {
    undo_changes(stack, running).await?;
    pod::delete(stack).await?;
    let cluster = stack.cluster().await?;
    stack.clean(text(&cluster, "/status/currentPrimary"), &running.run).await
}
