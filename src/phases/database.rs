//! The PostgreSQL cluster: one primary, synchronous standbys.

use std::time::Duration;

use futures::future::LocalBoxFuture;

use super::{Phase, part, sidecar};
use crate::{
    assets::{self, Part},
    context::Context,
    database::{self, reload, settings},
    desired::{self, major::KeptImage},
    error::Result,
    kube::{cnpg::ClusterStatus, keep_data},
    poll::Tries,
    ui::{Event, PhaseId},
};

/// How long the operator may take to set to work on a change: it is told at once, then asks every instance for its state, and
/// has all of them read a new configuration before it replaces any.
const SETS_TO_WORK: Duration = Duration::from_secs(6);
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Installs the database and waits for every instance.
pub struct Database {
    /// How many instances are asked for; for the title.
    pub instances: u32,
}

impl Phase for Database {
    fn id(&self) -> PhaseId {
        PhaseId::Database
    }

    fn title(&self) -> String {
        format!("PostgreSQL, {} instances", self.instances)
    }

    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId::Operator, PhaseId::Backup]
    }

    fn run<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<String>> {
        Box::pin(async {
            // An interrupted `down --keep-data` leaves it stopped and half removed.
            let kube = cx.kube().await?;
            let (namespace, cluster) = (&cx.config.stack.namespace, cx.database().await?);
            keep_data::wake(kube, namespace, &cluster, cx.deadline).await?;
            tell_kept_image(cx, &cluster).await?;
            let mut applied = part::apply(cx, self.id(), Part::Database).await?;
            look_again(cx, &applied, &cluster).await?;
            begun(cx, &applied, &cluster).await?;
            reload::during(cx, self.id(), &cluster, cx.deadline, part::wait(cx, self.id(), &applied)).await?;
            if sidecar::settle(cx, self.id(), &cluster).await? {
                applied.ready.clear();
                reload::during(cx, self.id(), &cluster, cx.deadline, part::wait(cx, self.id(), &applied)).await?;
            }
            let overview = database::Overview::read(kube, namespace, &cluster).await?;
            Ok(format!("{}, {}", overview.describe(), part::describe_changes(applied.changed)))
        })
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Vec<String>>> {
        Box::pin(part::plan(cx, Part::Database))
    }
}

/// Has the operator look again at a database that it has given up on: what it lacked may be there now.
async fn look_again(cx: &Context, applied: &part::Applied, cluster: &str) -> Result<()> {
    let (kube, namespace) = (cx.kube().await?, &cx.config.stack.namespace);
    let reference = database::reference(namespace, cluster);
    if applied.ready.iter().any(|(object, _)| *object == reference) {
        return Ok(());
    }
    match kube.get(&reference).await? {
        Some(live) if ClusterStatus::of(&live).is_stuck() => settings::touch(kube, namespace, cluster).await,
        _ => Ok(()),
    }
}

/// Waits until the operator has set to work on a Cluster that was changed, if it has anything to do for it: until then it
/// calls it healthy, as it was.
async fn begun(cx: &Context, applied: &part::Applied, cluster: &str) -> Result<()> {
    let kube = cx.kube().await?;
    let reference = database::reference(&cx.config.stack.namespace, cluster);
    if !applied.configured.contains(&reference) {
        return Ok(());
    }
    let mut tries = Tries::within(SETS_TO_WORK, LOOK_EVERY);
    loop {
        let live = kube.get(&reference).await?;
        if !live.is_some_and(|live| ClusterStatus::of(&live).is_healthy()) || !tries.another().await {
            return Ok(());
        }
    }
}

/// Says that the database keeps the image of another major version than the manifests have.
async fn tell_kept_image(cx: &Context, cluster: &str) -> Result<()> {
    let Some(live) = cx.kube().await?.get(&database::reference(&cx.config.stack.namespace, cluster)).await? else {
        return Ok(());
    };
    let objects = desired::embedded(cx, Part::Database).await?;
    let manifest = objects.iter().find(|object| assets::kind(object) == "Cluster");
    if let Some(kept) = manifest.and_then(|manifest| KeptImage::of(manifest, &live)) {
        cx.reporter.send(Event::Warning { phase: PhaseId::Database, text: kept.describe() });
    }
    Ok(())
}
