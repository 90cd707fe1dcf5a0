//! SQL on an instance, as the superuser over its local socket: no password leaves the cluster.

use std::time::Duration;

use anyhow::Context as _;

use super::Overview;
use crate::{
    error::{Result, failed},
    kube::{Kube, exec},
    names::{APP_DATABASE, POSTGRES},
};

/// What `sql` answers in `pod`, unaligned and without headings.
///
/// # Errors
/// The pod does not answer, or the statement fails.
pub async fn query_on(kube: &Kube, namespace: &str, pod: &str, sql: &str, timeout: Duration) -> Result<String> {
    let command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", APP_DATABASE, "-c", sql];
    let output = exec::run(kube, namespace, pod, POSTGRES, &command, timeout).await;
    Ok(output.with_context(|| format!("cannot ask {pod}"))?.trim().to_owned())
}

/// The pod of a Cluster's primary.
///
/// # Errors
/// No such Cluster, or it has no primary at the moment.
pub async fn primary(kube: &Kube, namespace: &str, cluster: &str) -> Result<String> {
    Overview::read(kube, namespace, cluster)
        .await?
        .primary
        .ok_or_else(|| failed("the database has no primary at the moment").remedy("stackctl status shows it").into())
}

/// The answer of a Cluster's primary to a query: [`query_on`] there.
///
/// # Errors
/// As [`query_on`] and [`primary`].
pub async fn query(kube: &Kube, namespace: &str, cluster: &str, sql: &str) -> Result<String> {
    let primary = primary(kube, namespace, cluster).await?;
    query_on(kube, namespace, &primary, sql, exec::DEFAULT_TIMEOUT).await
}

/// Bytes of all databases of a Cluster.
///
/// # Errors
/// As [`query`].
pub async fn size(kube: &Kube, namespace: &str, cluster: &str) -> Result<u64> {
    let text = query(kube, namespace, cluster, "select sum(pg_database_size(oid)) from pg_database").await?;
    text.parse().with_context(|| format!("{text:?} is no size"))
}
