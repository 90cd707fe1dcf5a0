//! The state that a drill must start from: every instance ready and streaming, the quorum known, the web app served
//! by several pods.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;

use super::target::DrillTarget;
use crate::{
    database,
    error::{Result, failed},
    names::WEB,
    poll,
};

/// How long the stack may take to recover from a drill that was interrupted.
pub const DRILLABLE_WITHIN: Duration = Duration::from_secs(180);

/// The SQL query for settings by which commits would not wait for a standby.
const WEAK_COMMITS: &str = "SELECT string_agg(s, ', ') FROM (SELECT unnest(setconfig) s FROM pg_db_role_setting \
     UNION ALL SELECT 'synchronous_commit=' || current_setting('synchronous_commit')) q \
     WHERE s LIKE 'synchronous_commit=%' AND s NOT IN ('synchronous_commit=on', 'synchronous_commit=remote_apply')";

/// The SQL query for how many standbys stream and count for the synchronous quorum.
const STREAMING: &str =
    "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state IN ('quorum', 'sync')";

/// Checks that the stack is in the state that a drill must start from. Returns the primary.
///
/// # Errors
/// What is amiss.
pub async fn ensure_drillable(target: &DrillTarget) -> Result<String> {
    let status = target.status().await?;
    let instances = status.wanted;
    let refuse = |why: String| Err(failed(format!("the stack is not fit for a drill: {why}")).into());
    if instances < 3 {
        return refuse(format!("{instances} instances can't lose one and stay redundant: it takes 3"));
    }
    let Some(primary) = status.settled_primary().filter(|_| status.is_healthy()) else {
        return refuse(format!("{}/{instances} instances are ready, {}", status.ready, status.phase));
    };
    let streaming = count_streaming_standbys(target, primary).await?;
    if streaming != instances - 1 {
        return refuse(format!("{streaming} of {} standbys stream as synchronous candidates", instances - 1));
    }
    if !quorum_is_known(target, primary).await? {
        return refuse("the operator does not know how many standbys confirm a commit, and would not promote".into());
    }
    let weak = target.psql(primary, WEAK_COMMITS).await?;
    if !weak.trim().is_empty() {
        return refuse(format!("commits do not wait for a standby: {}", weak.trim()));
    }
    let web = target.api::<Deployment>().get_opt(WEB).await?.and_then(|web| web.status);
    let pods = web.and_then(|status| status.ready_replicas).unwrap_or(0);
    if pods < 2 {
        return refuse(format!("{pods} pods of the web app are ready: it takes 2"));
    }
    Ok(primary.to_owned())
}

/// Gives the stack time to come into the state that [`ensure_drillable`] checks: [`DRILLABLE_WITHIN`]. Returns the
/// primary.
///
/// # Errors
/// What is still amiss at the end, as a timeout.
pub async fn wait_until_drillable(target: &DrillTarget) -> Result<String> {
    let (every, late) = (Duration::from_millis(500), "the stack does not become fit for a drill");
    poll::until_ok(DRILLABLE_WITHIN, every, late, || async { ensure_drillable(target).await }).await
}

/// Counts the standbys that stream and count for the synchronous quorum.
///
/// # Errors
/// As [`DrillTarget::psql`].
pub async fn count_streaming_standbys(target: &DrillTarget, primary: &str) -> Result<usize> {
    Ok(target.psql(primary, STREAMING).await?.trim().parse()?)
}

/// Asks whether the operator knows which standbys confirm the commits of `primary`: see [`database::quorum_is_known`].
///
/// # Errors
/// The API server refuses or does not answer.
pub async fn quorum_is_known(target: &DrillTarget, primary: &str) -> Result<bool> {
    database::quorum_is_known(&target.kube, &target.namespace, &target.database.get(), primary).await
}
