//! Streaming replication as the primary sees it.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{Lsn, primary, query_on};
use crate::{
    error::Result,
    kube::{Kube, exec},
};

/// One row a standby: its state, how it counts for commits, and how far it is behind; and the rule for commits.
const QUERY: &str = "select json_build_object('rule', current_setting('synchronous_standby_names'), 'standbys', \
    coalesce(json_agg(json_build_object(\
    'name', application_name, 'state', state, 'sync_state', sync_state, 'replayed', replay_lsn, \
    'lag_bytes', greatest(0, pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), \
    'lag_seconds', coalesce(extract(epoch from replay_lag), 0)) order by application_name), '[]')) \
    from pg_stat_replication where application_name like ";

/// What `pg_stat_replication` says.
#[derive(Debug, Clone, Deserialize)]
pub struct Replication {
    /// The `synchronous_standby_names` that the primary runs with.
    pub rule: String,
    /// The standbys that stream from the primary.
    pub standbys: Vec<Standby>,
}

/// A standby that streams from the primary.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Standby {
    /// The name of the standby's pod.
    pub name: String,
    /// `streaming`, `catchup`, …
    pub state: String,
    /// `sync` and `quorum` confirm commits; `async` and `potential` do not.
    pub sync_state: String,
    /// WAL that it has not replayed yet.
    pub lag_bytes: u64,
    /// The position up to which it has replayed, by its last word.
    #[serde(default, skip_serializing)]
    pub replayed: Option<Lsn>,
    /// How long the primary waited for the last replay, in seconds; 0 when idle.
    pub lag_seconds: f64,
}

impl Standby {
    /// Whether commits wait for it, or for one of a quorum that it is in.
    pub fn confirms(&self) -> bool {
        matches!(self.sync_state.as_str(), "sync" | "quorum")
    }
}

impl Replication {
    /// Asks the primary.
    ///
    /// # Errors
    /// No primary, or one that does not answer.
    pub async fn read(kube: &Kube, namespace: &str, cluster: &str) -> Result<Replication> {
        let primary = primary(kube, namespace, cluster).await?;
        let output = query_on(kube, namespace, &primary, &format!("{QUERY}'{cluster}-%'"), exec::DEFAULT_TIMEOUT).await;
        let output = output.with_context(|| format!("cannot ask the primary {primary} for its standbys"))?;
        serde_json::from_str(&output).context("the primary's answer cannot be read")
    }

    /// How many standbys confirm commits.
    pub fn synchronous(&self) -> usize {
        self.standbys.iter().filter(|standby| standby.confirms()).count()
    }
}
