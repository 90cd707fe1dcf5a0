//! Another instance as the primary, on purpose.

use std::time::Duration;

use anyhow::Context as _;
use kube::api::Patch;
use serde_json::json;

use super::{Lsn, Replication, Standby, query_on};
use crate::{
    error::{Failure, Result, failed},
    kube::{
        Kube,
        cnpg::{self, ClusterStatus},
        exec, merge_params,
    },
    poll::Tries,
    ui::human,
};

/// How much WAL an instance that is to be the primary may have yet to replay: a segment, which takes well under a second.
/// The operator promotes the one that it was asked for, however far behind that is, and whatever another one has
/// (<https://github.com/cloudnative-pg/cloudnative-pg/issues/11114>).
const MOST_BEHIND: u64 = 16 * 1024 * 1024;
/// How often it is looked at anew where the operator changes the Cluster between the look and the request.
const ATTEMPTS: usize = 5;

/// How long an instance that is to be the primary may take to replay what is written now. One whose receiver stands still
/// counts as streaming, and as little behind, until the primary gives it up: `wal_sender_timeout`, 5 s.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The SQL statements that write a little WAL, and tell where it ends. They wait for no standby.
const WRITE: &str = "set synchronous_commit = local; select pg_logical_emit_message(true, 'stackctl', 'switchover')";

/// The standby that is to become the primary: the one that is `wanted`, or of those that are fit the one that is least
/// behind. Which standby follows is seen by WAL that is written for it.
///
/// # Errors
/// The one that is wanted would lose or hold up writes (says why), or none is fit; the primary does not answer.
pub async fn find(kube: &Kube, namespace: &str, cluster: &str, primary: &str, wanted: Option<&str>) -> Result<Standby> {
    let read = || Replication::read(kube, namespace, cluster);
    choose(&read().await?.standbys, wanted, Lsn::default())?;
    let written = query_on(kube, namespace, primary, WRITE, exec::DEFAULT_TIMEOUT).await?;
    let written = written.parse().context("the primary's answer cannot be read")?;
    let mut tries = Tries::within(FOLLOWS_WITHIN, LOOK_EVERY);
    loop {
        match choose(&read().await?.standbys, wanted, written) {
            Err(_) if tries.another().await => {}
            chosen => return chosen.cloned(),
        }
    }
}

/// See [`find`]. `written`: the end of what must have been replayed.
fn choose<'a>(standbys: &'a [Standby], wanted: Option<&str>, written: Lsn) -> Result<&'a Standby> {
    let Some(wanted) = wanted else {
        let fit = standbys.iter().filter(|standby| unfit(standby, written).is_none());
        let least = fit.min_by_key(|standby| standby.lag_bytes);
        return Ok(least.ok_or_else(|| refusal("no standby could take over at once".into()))?);
    };
    let Some(found) = standbys.iter().find(|standby| standby.name == wanted) else {
        return Err(refusal(format!("{wanted} is not a standby that streams from the primary")).into());
    };
    match unfit(found, written) {
        Some(why) => Err(refusal(format!("{wanted} could not take over at once: {why}")).into()),
        None => Ok(found),
    }
}

/// Why a standby should not become the primary now.
fn unfit(standby: &Standby, written: Lsn) -> Option<String> {
    let behind = || human::bytes(standby.lag_bytes);
    if standby.state != "streaming" {
        Some(format!("it is in state {}", standby.state))
    } else if !standby.confirms() {
        Some("it does not confirm commits, and may lack some".into())
    } else if standby.lag_bytes > MOST_BEHIND {
        Some(format!("it is {} behind", behind()))
    } else if standby.replayed < Some(written) {
        let seconds = FOLLOWS_WITHIN.as_secs();
        Some(format!(
            "it is {} behind, and has not replayed within {seconds} s what was written for it to see",
            behind()
        ))
    } else {
        None
    }
}

fn refusal(why: String) -> Failure {
    failed(why).remedy("stackctl status shows every instance, its state and how far it is behind")
}

/// Asks the operator, for the field manager `manager`, to make an instance the primary, as `kubectl cnpg promote` does: the
/// one that `judge` names for the Cluster as it is, or none. The request holds for that Cluster only: where it has changed
/// meanwhile it is judged anew, as the operator may have begun a failover, and the standby that it has chosen may have what
/// another one lacks. Returns the instance that was asked for.
///
/// # Errors
/// That of `judge`; the API's refusal; no such Cluster; one that changes again and again.
pub async fn ask(
    kube: &Kube,
    namespace: &str,
    cluster: &str,
    manager: &str,
    mut judge: impl AsyncFnMut(&ClusterStatus) -> Result<Option<String>>,
) -> Result<Option<String>> {
    let reference = cnpg::reference(namespace, cluster);
    let api = cnpg::clusters(kube, namespace);
    for _ in 0..ATTEMPTS {
        let live = kube.get(&reference).await?.ok_or_else(|| failed(format!("there is no {reference}")))?;
        let Some(instance) = judge(&ClusterStatus::of(&live)).await? else { return Ok(None) };
        let now = jiff::Timestamp::now().to_string();
        let seen = live.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": seen}, "status": {
            "targetPrimary": instance, "targetPrimaryTimestamp": now,
            "phase": "Switchover in progress", "phaseReason": format!("Switching over to {instance}")}});
        match api.patch_status(cluster, &merge_params(manager), &Patch::Merge(patch)).await {
            Ok(_) => return Ok(Some(instance)),
            Err(::kube::Error::Api(status)) if status.is_conflict() => {}
            Err(error) => {
                // The request may have arrived though its answer was lost.
                let live = kube.get(&reference).await?.map(|live| ClusterStatus::of(&live)).unwrap_or_default();
                match live.target_primary.as_ref() == Some(&instance) {
                    true => return Ok(Some(instance)),
                    false => return Err(error).context("cannot ask for a switchover"),
                }
            }
        }
    }
    Err(failed("the operator changes the database's state again and again: nothing was asked of it")
        .remedy("stackctl status shows what it does; run the same command again when it is done")
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: Lsn = Lsn(5000);

    fn standby(name: &str, lag_bytes: u64) -> Standby {
        let (state, sync_state) = ("streaming".into(), "quorum".into());
        Standby { name: name.into(), state, sync_state, lag_bytes, replayed: Some(WRITTEN), lag_seconds: 0.0 }
    }

    #[test]
    fn the_one_that_is_least_behind_takes_over() {
        let restoring = Standby { state: "catchup".into(), ..standby("db-4", 0) };
        let behind = Standby { sync_state: "async".into(), ..standby("db-5", 0) };
        let standbys = [standby("db-2", 4096), standby("db-3", 0), restoring, behind];
        let choose = |wanted| choose(&standbys, wanted, WRITTEN);
        assert_eq!(choose(None).unwrap().name, "db-3");
        assert_eq!(choose(Some("db-2")).unwrap().name, "db-2");
        for (wanted, why) in [("db-4", "in state catchup"), ("db-5", "does not confirm commits"), ("db-9", "streams")] {
            let refused = choose(Some(wanted)).unwrap_err().to_string();
            assert!(refused.contains(wanted) && refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn nobody_takes_over_who_would_hold_writes_up() {
        let standbys = [standby("db-2", MOST_BEHIND + 1)];
        let choose = |wanted| choose(&standbys, wanted, WRITTEN).unwrap_err().to_string();
        assert!(choose(Some("db-2")).contains("16.0 MiB behind"), "{}", choose(Some("db-2")));
        assert!(choose(None).contains("no standby could take over"));
        assert!(super::choose(&[], None, WRITTEN).is_err());
    }

    /// It streams and confirms commits, by what the primary has heard of it last.
    #[test]
    fn a_standby_whose_receiver_stands_still_does_not_take_over() {
        let stalled = Standby { replayed: Some(Lsn(4000)), ..standby("db-2", 1000) };
        let standbys = [stalled, standby("db-3", 2000), Standby { replayed: None, ..standby("db-4", 0) }];
        let refused = choose(&standbys, Some("db-2"), WRITTEN).unwrap_err().to_string();
        assert!(refused.contains("it is 1000 B behind, and has not replayed within 2 s"), "{refused}");
        assert!(choose(&standbys, Some("db-4"), WRITTEN).is_err(), "it has said nothing yet");
        assert_eq!(choose(&standbys, None, WRITTEN).unwrap().name, "db-3");
    }
}
