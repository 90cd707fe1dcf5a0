//! The database from its backups: a base backup to start from, and a new database in the place of one that is lost.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::loss::{self, LossState, RecordedDatabase, live_volumes};
use crate::{
    backup::{RecoveryTarget, Store, base},
    config::Config,
    context::Context,
    drills::target::DrillTarget,
    error::{Failure, Result, failed},
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

/// A database that is lost, as far as its recorded facts tell, and the one that is to take its place.
#[derive(Debug, Clone, Copy)]
pub struct LostDatabase<'a> {
    /// The database's name.
    pub database: &'a str,
    /// The new database's name.
    pub name: &'a str,
    /// The database as it was before the fault; `None` in a record of 8b80009.
    pub recorded: Option<&'a RecordedDatabase>,
    /// Whether its deletion was about to be asked for.
    pub begun: bool,
}

impl LostDatabase<'_> {
    /// Decides by the volumes that there are now.
    async fn decide(&self, target: &DrillTarget) -> Result<LossState> {
        Ok(loss::decide(self.recorded, self.begun, &live_volumes(target, self.database).await?))
    }
}

/// Restores the latest moment of a lost database into a new one and has the app use it, as the command `restore` does;
/// removes what is left of the lost one. Nothing is done where the recorded facts do not show a loss. What is done
/// already is not done again: it is also what undoes a drill that was interrupted. `on_step` is told each step.
///
/// # Errors
/// A volume of the database lives, and nothing answers yet; the store holds nothing to restore, or a step does not end in
/// time.
pub async fn restore(
    target: &DrillTarget,
    config: &Config,
    lost: &LostDatabase<'_>,
    on_step: &(dyn Fn(String) + Sync),
) -> Result<()> {
    let LostDatabase { database, name, .. } = *lost;
    match lost.decide(target).await? {
        LossState::NotBegun => return Ok(()),
        LossState::Lives(_) if target.database.get() != database || serves(target).await => return Ok(()),
        LossState::Lives(volumes) => return Err(still_lives(database, &volumes).into()),
        LossState::Complete => {}
    }
    let cx = Context::new(config.clone(), Reporter::discard())?;
    let deadline = Instant::now() + BACK_WITHIN;
    target.database.set(cx.database().await?);
    let (kube, namespace) = (cx.kube().await?, &cx.config.stack.namespace);
    if kube.get(&reference(namespace, name)).await?.is_none() {
        on_step(format!("restoring the latest moment into {name}"));
        let order = Order {
            target: RecoveryTarget::Latest,
            server: Some(database.to_owned()),
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
    // Minutes have passed since it was decided: once more, before what is left is removed for good.
    if lost.decide(target).await? != LossState::Complete {
        on_step(format!("{database} is kept: it has volumes that were not destroyed"));
        return Ok(());
    }
    recovery::discard(&cx, PHASE, database, lost.recorded.map(|recorded| recorded.cluster.as_str()), deadline).await
}

fn still_lives(database: &str, volumes: &[String]) -> Failure {
    failed(format!(
        "{database} does not answer, but its volumes {} were not destroyed: nothing is restored over it and nothing \
         is removed",
        volumes.join(", ")
    ))
    .remedy("wait until the operator has recovered it from them: stackctl status and stackctl logs operator tell how far it is")
    .remedy("or restore a database beside it: stackctl restore")
}

/// Tells whether the database still has instances: whether its primary answers.
async fn serves(target: &DrillTarget) -> bool {
    let Ok(primary) = target.primary().await else { return false };
    target.psql(&primary, "SELECT 1").await.is_ok()
}
