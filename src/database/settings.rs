//! Whether PostgreSQL on an instance runs with what is in its configuration files.
//!
//! An instance's manager writes the files first and has them read later in the same pass; where the pass fails in
//! between, the next one finds nothing to change, and they are never read. The operator then waits for good for an
//! instance to run with the configuration of the others (<https://github.com/cloudnative-pg/cloudnative-pg/issues/8602>),
//! or commits are confirmed by other standbys than it believes.

use std::time::Duration;

use anyhow::Context as _;
use futures::future;
use kube::api::Patch;
use serde_json::json;

use super::{Overview, query_on};
use crate::{
    error::Result,
    kube::{Kube, cnpg, exec, merge_params},
    names::FIELD_MANAGER,
};

/// Whether the server runs with another value than the last line of its files that sets it says: of the operator's
/// digest of the whole configuration, and of the standbys that confirm commits.
const QUERY: &str = "select coalesce(bool_or(coalesce((select setting from pg_file_settings where name = one \
    order by seqno desc limit 1), '') <> coalesce(current_setting(one, true), '')), false) \
    from unnest(array['cnpg.config_sha256', 'synchronous_standby_names']) one";
/// The annotation by whose change the operator and the instances look at a Cluster again.
const TOUCHED: &str = "stackctl/touched-at";
/// How long a reload may take to be answered.
const RELOAD: Duration = Duration::from_secs(15);

/// The instances whose files were changed and never read, of those that answer.
///
/// # Errors
/// No such Cluster, or an API server that refuses.
pub async fn stale(kube: &Kube, namespace: &str, cluster: &str) -> Result<Vec<String>> {
    let members = Overview::read(kube, namespace, cluster).await?.members;
    let asked = members.into_iter().map(async |member| {
        let answer = query_on(kube, namespace, &member.name, QUERY, exec::DEFAULT_TIMEOUT).await;
        answer.is_ok_and(|answer| answer == "t").then_some(member.name)
    });
    Ok(future::join_all(asked).await.into_iter().flatten().collect())
}

/// Has the instances whose files were changed and never read read them, and the operator and the instances look at the
/// Cluster again; returns which those were.
///
/// # Errors
/// As [`stale`], and an instance that takes no reload.
pub async fn reload_stale(kube: &Kube, namespace: &str, cluster: &str) -> Result<Vec<String>> {
    let stale = stale(kube, namespace, cluster).await?;
    for instance in &stale {
        reload(kube, namespace, instance).await?;
    }
    if !stale.is_empty() {
        touch(kube, namespace, cluster).await?;
    }
    Ok(stale)
}

/// Has the primary read its files again, and the operator and the instances look at the Cluster again: what cures a
/// quorum that stays unknown.
///
/// # Errors
/// The primary does not answer, or the API's refusal.
pub async fn refresh(kube: &Kube, namespace: &str, cluster: &str, primary: &str) -> Result<()> {
    reload(kube, namespace, primary).await?;
    touch(kube, namespace, cluster).await
}

async fn reload(kube: &Kube, namespace: &str, instance: &str) -> Result<()> {
    query_on(kube, namespace, instance, "select pg_reload_conf()", RELOAD).await?;
    Ok(())
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
