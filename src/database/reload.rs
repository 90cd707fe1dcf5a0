//! The cure of a database whose instances are all ready and which the operator yet does not call healthy: one of them has
//! not read its configuration since it was changed.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use futures::future::{self, Either};

use super::{reference, settings};
use crate::{context::Context, error::Result, kube::cnpg::ClusterStatus, poll::Tries, ui::PhaseId};

/// How long a database may be ready and not yet healthy by itself: the operator looks every second.
const USUAL: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Runs a phase's wait for a Cluster of the stack to its end, `deadline` at the latest, and meanwhile has instances read
/// their configuration where they have not and the operator waits for that.
///
/// # Errors
/// Those of `waiting`.
pub async fn during(
    cx: &Context,
    phase: PhaseId,
    cluster: &str,
    deadline: Instant,
    waiting: impl Future<Output = Result<()>>,
) -> Result<()> {
    let curing = async {
        let (mut since, mut tries) = (None, Tries::until(deadline, LOOK_EVERY));
        while tries.another().await {
            match cure(cx, phase, cluster, &mut since).await {
                Ok(()) => {}
                // The wait itself tells what is in the way.
                Err(error) => tracing::debug!("no look at the instances' configuration: {error:#}"),
            }
        }
    };
    // It is the wait that ends with the deadline, and says for what.
    let (waiting, curing) = (pin!(waiting), pin!(curing));
    match future::select(waiting, curing).await {
        Either::Left((waited, _)) => waited,
        Either::Right(((), waiting)) => waiting.await,
    }
}

/// `since`: when the database was first seen to be ready and not healthy.
async fn cure(cx: &Context, phase: PhaseId, cluster: &str, since: &mut Option<Instant>) -> Result<()> {
    let (kube, namespace) = (cx.kube().await?, &cx.config.stack.namespace);
    let live = kube.get(&reference(namespace, cluster)).await?;
    let status = live.as_ref().map(ClusterStatus::of);
    if !status.is_some_and(|status| status.ready == status.wanted && !status.is_healthy()) {
        *since = None;
        return Ok(());
    }
    if since.get_or_insert_with(Instant::now).elapsed() < USUAL {
        return Ok(());
    }
    let stale = settings::reload_stale(kube, namespace, cluster).await?;
    if !stale.is_empty() {
        cx.doing(phase, format!("having {} read the configuration again", stale.join(", ")));
        *since = None;
    }
    Ok(())
}
