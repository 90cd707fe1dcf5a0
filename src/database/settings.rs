//! Whether PostgreSQL on the primary runs with the synchronous replication that is in its configuration file.

use std::time::Duration;

use anyhow::Context as _;
use kube::api::Patch;
use serde::Deserialize;
use serde_json::json;

use super::query_on;
use crate::{
    error::Result,
    kube::{Kube, cnpg, exec, merge_params},
    names::FIELD_MANAGER,
};

/// The setting as the server runs with it, and as the last line of its files that sets it says.
const QUERY: &str = "select json_build_object('running', current_setting('synchronous_standby_names'), 'file', \
    coalesce((select setting from pg_file_settings where name = 'synchronous_standby_names' \
    order by seqno desc limit 1), ''))";
/// The annotation by whose change the operator and the instances look at a Cluster again.
const TOUCHED: &str = "stackctl/touched-at";
/// How long a reload may take to be answered.
const RELOAD: Duration = Duration::from_secs(15);

/// `synchronous_standby_names`, twice.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SynchronousSetting {
    /// The value that the server runs with.
    pub running: String,
    /// The value in its configuration files.
    pub file: String,
}

impl SynchronousSetting {
    /// Asks the primary.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn read(kube: &Kube, namespace: &str, primary: &str) -> Result<SynchronousSetting> {
        let answer = query_on(kube, namespace, primary, QUERY, exec::DEFAULT_TIMEOUT).await?;
        serde_json::from_str(&answer).context("the primary's answer on its settings cannot be read")
    }

    /// Tells whether the file was changed and never reloaded.
    pub fn is_stale(&self) -> bool {
        self.running != self.file
    }
}

/// Has the primary read its files again, and the operator and the instances look at the Cluster again: what cures a
/// primary whose settings are stale, and a quorum that stays unknown.
///
/// # Errors
/// The primary does not answer, or the API's refusal.
pub async fn refresh(kube: &Kube, namespace: &str, cluster: &str, primary: &str) -> Result<()> {
    query_on(kube, namespace, primary, "select pg_reload_conf()", RELOAD).await?;
    touch(kube, namespace, cluster).await
}

/// Makes the operator and the instances look at the Cluster again, as every change of it does.
///
/// # Errors
/// The API's refusal.
pub async fn touch(kube: &Kube, namespace: &str, cluster: &str) -> Result<()> {
    let now = jiff::Timestamp::now().to_string();
    let touch = Patch::Merge(json!({"metadata": {"annotations": {TOUCHED: now}}}));
    let params = merge_params(FIELD_MANAGER);
    cnpg::clusters(kube, namespace).patch(cluster, &params, &touch).await.context("cannot touch the Cluster")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_never_reloaded_is_found() {
        let of = |text: &str| serde_json::from_str::<SynchronousSetting>(text).unwrap();
        let names = r#"ANY 1 (\"db-2\",\"db-3\")"#;
        assert!(of(&format!(r#"{{"running": "", "file": "{names}"}}"#)).is_stale());
        assert!(!of(&format!(r#"{{"running": "{names}", "file": "{names}"}}"#)).is_stale());
        assert!(!of(r#"{"running": "", "file": ""}"#).is_stale());
    }
}
