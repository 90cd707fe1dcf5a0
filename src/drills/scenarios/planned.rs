//! What an administrator does on purpose.

use serde_json::json;

use super::{COMMON, Role, Scenario, Scene};
use crate::drills::actions::switchover::promote;
use crate::{drills::model::events::Kind, error::Result};

pub static SWITCHOVER: Scenario = Scenario {
    id: "switchover",
    title: "A planned switchover",
    does: "asks the operator to make a standby the primary",
    must: "the old primary stops, the standby is promoted, nothing acknowledged is lost",
    undone: "not needed: the roles have changed",
    role: Role::Moves,
    inject: |s| Box::pin(switchover(s)),
    ..COMMON
};

pub static ROLLING_RESTART: Scenario = Scenario {
    id: "rolling-restart",
    title: "A rolling restart of the database",
    does: "restarts every instance, the primary last, as after a change of its image",
    must: "writes pause for the last one only, nothing acknowledged is lost",
    undone: "not needed",
    inject: |s| Box::pin(rolling_restart(s)),
    ..COMMON
};

async fn switchover(scene: &Scene<'_>) -> Result<String> {
    let target = &scene.standbys[0];
    scene.observer.note(Kind::Injected, format!("switchover to {target} asked for"));
    promote(scene.stack, target).await?;
    Ok(format!("switchover to {target} asked for"))
}

async fn rolling_restart(scene: &Scene<'_>) -> Result<String> {
    // What `kubectl cnpg restart` does.
    let now = jiff::Timestamp::now().to_string();
    scene.stack.patch(&json!({"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": now}}})).await?;
    Ok("restart of every instance asked for".into())
}
