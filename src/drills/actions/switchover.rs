//! Another instance as the primary: asked for while all is well, or forced where the primary is gone with its volume.

use std::time::Duration;

use anyhow::Context as _;

use super::{
    INSTANCE_CHANGE,
    loss::{self, LossState, RecordedVolume, live_volumes},
    postgres::unfence,
    wait_until,
};
use crate::{
    database::{self, Lsn},
    drills::{preconditions::wait_until_drillable, target::DrillTarget},
    error::{Result, failed},
    kube::cnpg::ClusterStatus,
    names::DRILL_MANAGER,
};

/// How long a standby may take to become the primary. The operator takes the request back where it sees no instance
/// ready, as for a moment after the standbys were stopped; so it is asked again.
const ANSWERED: Duration = Duration::from_secs(10);

/// Asks the operator to make an instance the primary: see [`database::switchover::ask`]. Nothing is asked where it is.
///
/// # Errors
/// The API's refusal; a failover or switchover that is under way.
pub async fn promote(target: &DrillTarget, instance: &str) -> Result<()> {
    let judge = async |status: &ClusterStatus| match status.settled_primary() {
        Some(primary) => Ok((primary != instance).then(|| instance.to_owned())),
        None => {
            let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "nobody".into());
            let (from, to) = (name(&status.current_primary), name(&status.target_primary));
            let under_way = format!("{instance} is not made the primary: a change from {from} to {to} is under way");
            Err(failed(under_way).into())
        }
    };
    ask(target, judge).await.map(drop)
}

async fn ask(
    target: &DrillTarget,
    judge: impl AsyncFnMut(&ClusterStatus) -> Result<Option<String>>,
) -> Result<Option<String>> {
    let (kube, namespace) = (&target.kube, &target.namespace);
    database::switchover::ask(kube, namespace, &target.database.get(), DRILL_MANAGER, judge).await
}

/// Makes an instance the primary, after a change of primary that is under way, and waits until everything is well again.
///
/// # Errors
/// The API's refusal, or a change that does not end.
pub async fn make_primary(target: &DrillTarget, instance: &str) -> Result<()> {
    wait_until(INSTANCE_CHANGE, "the change of primary that is under way does not end", || async {
        Ok(target.status().await?.settled_primary().is_some())
    })
    .await?;
    promote(target, instance).await?;
    let late = format!("{instance} does not become the primary");
    wait_until(INSTANCE_CHANGE, &late, || async {
        Ok(target.status().await?.current_primary.as_deref() == Some(instance))
    })
    .await?;
    wait_until_drillable(target).await.context(late)?;
    Ok(())
}

/// A primary whose volume is lost, as far as its recorded facts tell.
#[derive(Debug, Clone, Copy)]
pub struct LostPrimary<'a> {
    /// The primary before the fault.
    pub instance: &'a str,
    /// The instance's volume before the fault; `None` in a record of 8b80009.
    pub recorded: Option<&'a RecordedVolume>,
    /// Whether the volume's deletion was about to be asked for.
    pub begun: bool,
}

/// Has the standby that has most take over from an instance whose volume is lost; nothing is done where another one is
/// the primary already, where the deletion of the volume had not begun, or where the volume lives, whether PostgreSQL on
/// it answers or not. By itself the operator (1.30) tries to make the primary's new volume from the primary that is gone,
/// and waits for it for good.
///
/// Until it has happened, replication must not become synchronous again: the operator would then rightly promote
/// nobody.
///
/// # Errors
/// The API's refusal; a standby that does not answer, or that has not become the primary within 10 s: to be tried again.
pub async fn force_failover(target: &DrillTarget, lost: &LostPrimary<'_>) -> Result<()> {
    let primary = lost.instance;
    if has_moved(target, primary).await? {
        return Ok(());
    }
    let live = live_volumes(target, &target.database.get()).await?;
    if loss::decide_instance(lost.recorded, lost.begun, primary, &live) != LossState::Complete {
        return Ok(());
    }
    unfence(target).await?;
    take_over(target, primary, async |standby| {
        let replayed = target.psql(standby, "SELECT coalesce(pg_last_wal_replay_lsn()::text, '')").await?;
        replayed.trim().parse().ok().with_context(|| format!("{standby} has replayed nothing yet"))
    })
    .await
}

/// Has the standby that has most, by what `replayed` says of each, take over from `primary`. One that the operator has
/// chosen already takes over in its place: it may be promoted by now, and a second one would be a second primary.
///
/// # Errors
/// Those of `replayed`; the API's refusal; nobody has taken over within 10 s.
pub async fn take_over(
    target: &DrillTarget,
    primary: &str,
    mut replayed: impl AsyncFnMut(&str) -> Result<Lsn>,
) -> Result<()> {
    let mut chosen = None;
    ask(target, async |status| {
        if status.current_primary.as_deref() != Some(primary) {
            return Ok(None);
        }
        if let Some(successor) = status.successor_of(primary) {
            chosen = Some(successor.to_owned());
            return Ok(None);
        }
        // One that has more than the new primary could not follow it.
        let mut most: Option<(Lsn, &String)> = None;
        for standby in status.instance_names.iter().filter(|name| *name != primary) {
            let lsn = replayed(standby).await?;
            if most.is_none_or(|(most, _)| lsn > most) {
                most = Some((lsn, standby));
            }
        }
        chosen = most.map(|(_, standby)| standby.clone());
        Ok(Some(chosen.clone().context("there is no standby")?))
    })
    .await?;
    let late = format!("{} does not become the primary", chosen.as_deref().unwrap_or("another instance"));
    wait_until(ANSWERED, &late, || async { has_moved(target, primary).await }).await
}

async fn has_moved(target: &DrillTarget, primary: &str) -> Result<bool> {
    Ok(target.status().await?.current_primary.is_some_and(|now| now != primary))
}
