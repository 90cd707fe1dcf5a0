//! The database from its backups: a base backup to start from, and a new database in the place of one that is lost.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::{
    backup::{Store, Target, base},
    config::Config,
    context::Context,
    drills::target::DrillTarget,
    error::Result,
    kube::cnpg::reference,
    restore::{
        promotion,
        recovery::{self, Order},
    },
    ui::{PhaseId, Reporter},
};

/// How long a base backup may take.
const BACKUP_WITHIN: Duration = Duration::from_secs(120);
/// How long the restore may take, with the change of the app to the new database.
const BACK_WITHIN: Duration = Duration::from_secs(600);
/// The phase's id in events, which nobody reads here.
const PHASE: PhaseId = PhaseId::Drill;

/// Takes a base backup.
///
/// # Errors
/// As [`base::take`].
pub async fn back_up(target: &DrillTarget) -> Result<()> {
    base::take(&target.kube, &target.namespace, &target.database.get(), BACKUP_WITHIN).await
}

/// Makes sure that there is a base backup to start from, and all the WAL since.
///
/// # Errors
/// The store can't be read, or no base backup can be taken.
pub async fn ensure_backed_up(target: &DrillTarget) -> Result<()> {
    let store = Store::required(&target.kube, &target.namespace).await?;
    let catalog = store.catalog(&target.kube, &target.namespace, Instant::now() + BACKUP_WITHIN).await?;
    let server = catalog.servers.get(&target.database.get());
    if server.is_some_and(|server| server.first_moment().is_some() && server.gap() == 0) {
        return Ok(());
    }
    back_up(target).await.context("there is no base backup to restore from, and none can be taken")
}

/// Restores the latest moment of `lost` into the Cluster `name` and has the app use it, as the command `restore` does;
/// removes what is left of `lost`. What is done already is not done again: it is also what undoes a drill that was
/// interrupted. `on_step` is told each step.
///
/// # Errors
/// The store holds nothing to restore, or a step does not end in time.
pub async fn restore(
    target: &DrillTarget,
    config: &Config,
    lost: &str,
    name: &str,
    on_step: &(dyn Fn(String) + Sync),
) -> Result<()> {
    let cx = Context::new(config.clone(), Reporter::discard())?;
    let deadline = Instant::now() + BACK_WITHIN;
    target.database.set(cx.database().await?);
    if target.database.get() == lost && serves(target).await {
        // The fault had not come yet.
        return Ok(());
    }
    let (kube, namespace) = (cx.kube().await?, &cx.config.stack.namespace);
    if kube.get(&reference(namespace, name)).await?.is_none() {
        on_step(format!("restoring the latest moment into {name}"));
        let order = Order {
            target: Target::Latest,
            server: Some(lost.to_owned()),
            name: name.to_owned(),
            instances: None,
            archives: true,
            deadline,
        };
        let recovered = recovery::restore(&cx, PHASE, &order).await?;
        on_step(format!("restored: every instance is ready {:.0} s after it was asked for", recovered.as_secs_f64()));
    }
    let promoted = promotion::promote(&cx, PHASE, name, deadline).await?;
    on_step(format!("the app uses {name}, {:.0} s after it was told to", promoted.paused.as_secs_f64()));
    target.database.set(name);
    recovery::discard(&cx, PHASE, lost, deadline).await
}

/// Tells whether the database still has instances: whether its primary answers.
async fn serves(target: &DrillTarget) -> bool {
    let Ok(primary) = target.primary().await else { return false };
    target.psql(&primary, "SELECT 1").await.is_ok()
}
