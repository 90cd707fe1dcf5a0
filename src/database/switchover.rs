//! Another instance as the primary, on purpose.

use anyhow::Context as _;
use kube::api::Patch;
use serde_json::json;

use super::Standby;
use crate::{
    error::{Failure, Result, failed},
    kube::{Kube, cnpg, merge_params},
};

/// How much WAL an instance that is to be the primary may have yet to replay: a segment, which takes well under a second.
/// The operator promotes the one that it was asked for, however far behind that is, and whatever another one has
/// (<https://github.com/cloudnative-pg/cloudnative-pg/issues/11114>).
const MOST_BEHIND: u64 = 16 * 1024 * 1024;

/// The standby that is to become the primary: the one that is `wanted`, or of those that are fit the one that is least behind.
///
/// # Errors
/// The one that is wanted would lose or hold up writes (says why), or none is fit.
pub fn choose<'a>(standbys: &'a [Standby], wanted: Option<&str>) -> Result<&'a Standby> {
    let Some(wanted) = wanted else {
        let fit = standbys.iter().filter(|standby| unfit(standby).is_none());
        let least = fit.min_by_key(|standby| standby.lag_bytes);
        return Ok(least.ok_or_else(|| refusal("no standby could take over at once".into()))?);
    };
    let Some(found) = standbys.iter().find(|standby| standby.name == wanted) else {
        return Err(refusal(format!("{wanted} is not a standby that streams from the primary")).into());
    };
    match unfit(found) {
        Some(why) => Err(refusal(format!("{wanted} could not take over at once: {why}")).into()),
        None => Ok(found),
    }
}

/// Why a standby should not become the primary now.
fn unfit(standby: &Standby) -> Option<String> {
    if standby.state != "streaming" {
        Some(format!("it is in state {}", standby.state))
    } else if !standby.confirms() {
        Some("it does not confirm commits, and may lack some".into())
    } else if standby.lag_bytes > MOST_BEHIND {
        Some(format!("it is {} MiB behind", standby.lag_bytes / 1024 / 1024))
    } else {
        None
    }
}

fn refusal(why: String) -> Failure {
    failed(why).remedy("stackctl status shows every instance, its state and how far it is behind")
}

/// Asks the operator, for the field manager `manager`, to make an instance the primary, as `kubectl cnpg promote` does.
/// `seen`: the resourceVersion at which the Cluster was judged. At another one nothing is asked, and the answer is false: the
/// operator may have begun a failover, and the standby that it has chosen may have what this one lacks.
///
/// # Errors
/// The API's refusal.
pub async fn ask(
    kube: &Kube,
    namespace: &str,
    cluster: &str,
    instance: &str,
    manager: &str,
    seen: Option<&str>,
) -> Result<bool> {
    let now = jiff::Timestamp::now().to_string();
    let mut patch = json!({"status": {"targetPrimary": instance, "targetPrimaryTimestamp": now,
        "phase": "Switchover in progress", "phaseReason": format!("Switching over to {instance}")}});
    if let Some(seen) = seen {
        patch["metadata"] = json!({"resourceVersion": seen});
    }
    let api = cnpg::clusters(kube, namespace);
    let asked = api.patch_status(cluster, &merge_params(manager), &Patch::Merge(patch)).await;
    match asked {
        Ok(_) => Ok(true),
        Err(::kube::Error::Api(status)) if seen.is_some() && status.is_conflict() => Ok(false),
        Err(error) => Err(error).context("cannot ask for a switchover"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standby(name: &str, lag_bytes: u64) -> Standby {
        let (state, sync_state) = ("streaming".into(), "quorum".into());
        Standby { name: name.into(), state, sync_state, lag_bytes, lag_seconds: 0.0 }
    }

    #[test]
    fn the_one_that_is_least_behind_takes_over() {
        let restoring = Standby { state: "catchup".into(), ..standby("db-4", 0) };
        let behind = Standby { sync_state: "async".into(), ..standby("db-5", 0) };
        let standbys = [standby("db-2", 4096), standby("db-3", 0), restoring, behind];
        assert_eq!(choose(&standbys, None).unwrap().name, "db-3");
        assert_eq!(choose(&standbys, Some("db-2")).unwrap().name, "db-2");
        for (wanted, why) in [("db-4", "in state catchup"), ("db-5", "does not confirm commits"), ("db-9", "streams")] {
            let refused = choose(&standbys, Some(wanted)).unwrap_err().to_string();
            assert!(refused.contains(wanted) && refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn nobody_takes_over_who_would_hold_writes_up() {
        let standbys = [standby("db-2", MOST_BEHIND + 1)];
        assert!(choose(&standbys, Some("db-2")).unwrap_err().to_string().contains("16 MiB behind"));
        assert!(choose(&standbys, None).unwrap_err().to_string().contains("no standby could take over"));
        assert!(choose(&[], None).is_err());
    }
}
