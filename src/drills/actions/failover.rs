//! A standby as the new primary, where the old one is gone with its volume.
//!
//! By itself the operator (1.30) tries to make the primary's new volume from the primary that is gone, and waits for
//! it for good.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::switchover::{cast, poll, promote};
use crate::{
    database::Lsn,
    drills::{
        target::{Stack, text},
        undo::{self, Undo},
    },
    error::Result,
};

/// How long a standby may take to become the primary. The operator takes the request back where it sees no instance
/// ready, as for a moment after the standbys were stopped; so it is asked again.
const ANSWERED: Duration = Duration::from_secs(10);

/// Has the standby that has most take over from an instance whose volume is lost; nothing is done where another one is
/// the primary already, or where the volume is there and the primary answers.
///
/// Until it has happened, replication must not become synchronous again: the operator would then rightly promote
/// nobody.
///
/// # Errors
/// The API's refusal; a standby that does not answer, or that has not become the primary within 10 s: to be tried again.
pub async fn from(stack: &Stack, primary: &str) -> Result<()> {
    if moved(stack, primary).await? || has_its_data(stack, primary).await? {
        return Ok(());
    }
    Box::pin(undo::one(stack, &Undo::Unfence)).await?;
    // One that has more than the new primary could not follow it.
    let mut ahead: Option<(Lsn, String)> = None;
    for standby in cast(stack, primary).await? {
        let replayed = stack.psql(&standby, "SELECT coalesce(pg_last_wal_replay_lsn()::text, '')").await?;
        let lsn: Lsn = replayed.trim().parse().ok().with_context(|| format!("{standby} has replayed nothing yet"))?;
        if ahead.as_ref().is_none_or(|(most, _)| lsn > *most) {
            ahead = Some((lsn, standby));
        }
    }
    let (_, target) = ahead.context("there is no standby")?;
    promote(stack, &target).await?;
    poll(ANSWERED, &format!("{target} does not become the primary"), async || moved(stack, primary).await).await
}

async fn moved(stack: &Stack, primary: &str) -> Result<bool> {
    let cluster = stack.cluster().await?;
    let now = text(&cluster, "/status/currentPrimary");
    Ok(!now.is_empty() && now != primary)
}

/// Whether the primary works on a volume that stays.
async fn has_its_data(stack: &Stack, primary: &str) -> Result<bool> {
    let claim = stack.api::<PersistentVolumeClaim>().get_opt(primary).await.context("cannot read the volume claim")?;
    let stays = claim.is_some_and(|claim| claim.metadata.deletion_timestamp.is_none());
    Ok(stays && stack.psql(primary, "SELECT pg_is_in_recovery()").await.is_ok_and(|answer| answer.trim() == "f"))
}
