//! Another instance as the primary: asked for while all is well, or forced where the primary is gone with its volume.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::Patch;
use serde_json::json;

use super::{INSTANCE_CHANGE, postgres::unfence, wait_until};
use crate::{
    database::Lsn,
    drills::{preconditions::wait_until_drillable, target::DrillTarget},
    error::Result,
    kube::merge_params,
    names::DRILL_MANAGER,
};

/// How long a standby may take to become the primary. The operator takes the request back where it sees no instance
/// ready, as for a moment after the standbys were stopped; so it is asked again.
const ANSWERED: Duration = Duration::from_secs(10);

/// Asks the operator to make an instance the primary, as `kubectl cnpg promote` does.
///
/// # Errors
/// The API's refusal.
pub async fn promote(target: &DrillTarget, instance: &str) -> Result<()> {
    let now = jiff::Timestamp::now().to_string();
    let patch = json!({"status": {"targetPrimary": instance, "targetPrimaryTimestamp": now,
        "phase": "Switchover in progress", "phaseReason": format!("Switching over to {instance}")}});
    target
        .clusters()
        .patch_status(&target.database.get(), &merge_params(DRILL_MANAGER), &Patch::Merge(patch))
        .await
        .context("cannot ask for a switchover")?;
    Ok(())
}

/// Makes an instance the primary and waits until everything is well again.
///
/// # Errors
/// The API's refusal, or a change that does not end.
pub async fn make_primary(target: &DrillTarget, instance: &str) -> Result<()> {
    promote(target, instance).await?;
    let late = format!("{instance} does not become the primary");
    wait_until(
        INSTANCE_CHANGE,
        &late,
        async || Ok(target.status().await?.current_primary.as_deref() == Some(instance)),
    )
    .await?;
    wait_until_drillable(target).await.context(late)?;
    Ok(())
}

/// Has the standby that has most take over from an instance whose volume is lost; nothing is done where another one is
/// the primary already, or where the volume is there and the primary answers. By itself the operator (1.30) tries to
/// make the primary's new volume from the primary that is gone, and waits for it for good.
///
/// Until it has happened, replication must not become synchronous again: the operator would then rightly promote
/// nobody.
///
/// # Errors
/// The API's refusal; a standby that does not answer, or that has not become the primary within 10 s: to be tried again.
pub async fn force_failover(target: &DrillTarget, primary: &str) -> Result<()> {
    if has_moved(target, primary).await? || has_its_data(target, primary).await? {
        return Ok(());
    }
    unfence(target).await?;
    // One that has more than the new primary could not follow it.
    let mut most: Option<(Lsn, String)> = None;
    for standby in target.standbys(primary).await? {
        let replayed = target.psql(&standby, "SELECT coalesce(pg_last_wal_replay_lsn()::text, '')").await?;
        let lsn: Lsn = replayed.trim().parse().ok().with_context(|| format!("{standby} has replayed nothing yet"))?;
        if most.as_ref().is_none_or(|(most, _)| lsn > *most) {
            most = Some((lsn, standby));
        }
    }
    let (_, chosen) = most.context("there is no standby")?;
    promote(target, &chosen).await?;
    let late = format!("{chosen} does not become the primary");
    wait_until(ANSWERED, &late, async || has_moved(target, primary).await).await
}

async fn has_moved(target: &DrillTarget, primary: &str) -> Result<bool> {
    Ok(target.status().await?.current_primary.is_some_and(|now| now != primary))
}

/// Whether the primary works on a volume that stays.
async fn has_its_data(target: &DrillTarget, primary: &str) -> Result<bool> {
    let claim = target.api::<PersistentVolumeClaim>().get_opt(primary).await.context("cannot read the volume claim")?;
    let stays = claim.is_some_and(|claim| claim.metadata.deletion_timestamp.is_none());
    Ok(stays && target.psql(primary, "SELECT pg_is_in_recovery()").await.is_ok_and(|answer| answer.trim() == "f"))
}
