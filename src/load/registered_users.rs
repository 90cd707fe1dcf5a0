//! The users that loads have registered.

use anyhow::Context as _;

use crate::{
    database::{Overview, query_on},
    error::{Result, failed},
    kube::{Kube, exec},
};

/// The statement that removes them. Nobody else can have an address there: the name is reserved for what does not
/// exist.
const DELETE: &str = "with keys as (delete from idempotency_keys where key like 'load-%'), \
                      gone as (delete from users where email like 'load-%@load.invalid' returning 1) \
                      select count(*) from gone";

/// Removes all users that loads have registered; returns how many there were.
///
/// # Errors
/// The database has no primary at the moment, or it refuses.
pub async fn remove(kube: &Kube, namespace: &str, cluster: &str) -> Result<u64> {
    let overview = Overview::read(kube, namespace, cluster).await?;
    let primary = overview.primary.ok_or_else(|| {
        failed("the database has no primary at the moment: the users that a load registered cannot be removed")
            .remedy("run stackctl load again when stackctl status is healthy: it removes them first")
    })?;
    let output = query_on(kube, namespace, &primary, DELETE, exec::DEFAULT_TIMEOUT).await;
    let output = output.context("the users that a load registered cannot be removed")?;
    output.parse().with_context(|| format!("the primary answers {output:?}"))
}
