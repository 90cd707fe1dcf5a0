//! Making a restored Cluster: from the store's answer to a Cluster that is ready.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::DynamicObject;
use serde_json::json;

use super::{SERVES, verify_end_of_wal};
use crate::{
    assets::{self, Part},
    backup::{
        RecoveryTarget, Server, Store,
        restored::{RecoverySpec, recovery_manifest},
    },
    context::Context,
    database::{self, reload},
    desired,
    error::{Result, failed, one_line, usage},
    kube::{ApplyEvent, ApplyOptions, ObjectRef, apply, wait_ready},
    poll, progress,
    ui::{Event, PhaseId},
};

/// How long the running database is given to archive what it has.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// What a restore is asked for.
#[derive(Debug, Clone)]
pub struct Order {
    /// What to restore.
    pub target: RecoveryTarget,
    /// Whose backups; `None`: those of the database that the app uses.
    pub server: Option<String>,
    /// The new Cluster's name.
    pub name: String,
    /// How many instances; `None`: as many as the database has.
    pub instances: Option<u32>,
    /// Whether it archives its own WAL.
    pub archives: bool,
    /// When the database must be ready.
    pub deadline: Instant,
}

/// Restores into a new Cluster and waits until it is ready; returns how long that took.
///
/// # Errors
/// The store does not hold what it takes, a Cluster by that name is there, the recovery fails, or the latest moment was
/// asked for and not reached.
pub async fn restore(cx: &Context, phase: PhaseId, order: &Order) -> Result<Duration> {
    let kube = cx.kube().await?;
    let namespace = &cx.config.stack.namespace;
    let reference = database::reference(namespace, &order.name);
    if kube.get(&reference).await?.is_some() {
        return Err(usage(format!("{reference} is there: nothing is restored over a database"))
            .remedy("give another name with --name")
            .into());
    }
    let store = Store::required(kube, namespace).await?;
    let current = cx.database().await?;
    let server = order.server.as_ref().unwrap_or(&current);
    if !matches!(order.target, RecoveryTarget::Backup(_))
        && *server == current
        && let Err(error) = archive_now(cx, phase).await
    {
        let text = format!("what the database has not archived by itself is not in the store: {}", one_line(&error));
        cx.reporter.send(Event::Warning { phase, text });
    }
    cx.doing(phase, "asking the store what it has");
    let catalog = store.catalog(kube, namespace, order.deadline).await?;
    if order.archives && catalog.servers.contains_key(&order.name) {
        return Err(usage(format!("the store has what another database of the name {} archived", order.name))
            .remedy("give another name with --name")
            .into());
    }
    let held = find(&catalog.servers, server)?;
    let (latest, gap) = (matches!(order.target, RecoveryTarget::Latest), held.gap());
    if latest && gap > 0 {
        let text = format!(
            "after the newest base backup of {server}, WAL is missing in the store: what was written after that is not \
             restored"
        );
        cx.reporter.send(Event::Warning { phase, text });
    }
    let template = template(cx).await?;
    let as_many = template.data["spec"]["instances"].as_u64().and_then(|count| u32::try_from(count).ok());
    let spec = RecoverySpec {
        name: &order.name,
        server,
        instances: order.instances.or(as_many).unwrap_or(cx.config.stack.instances),
        archives: order.archives,
        to: &order.target.describe(),
        recovery: order.target.recovery(held, Timestamp::now())?,
    };
    let cluster = recovery_manifest(&template, &spec)?;
    let began = Instant::now();
    make(cx, phase, cluster, &reference, order.deadline).await?;
    // Beyond a gap nobody can read: that was told above.
    if latest && gap == 0 {
        verify_end_of_wal(kube, namespace, &order.name, held).await?;
    }
    Ok(began.elapsed())
}

fn find<'a>(servers: &'a std::collections::BTreeMap<String, Server>, name: &str) -> Result<&'a Server> {
    servers.get(name).ok_or_else(|| {
        let failure = failed(format!("the store has no backups of {name}"));
        match servers.keys().cloned().collect::<Vec<_>>() {
            none if none.is_empty() => failure.remedy("stackctl backup create takes one").into(),
            there => failure.remedy(format!("name another server with --from: {}", there.join(", "))).into(),
        }
    })
}

/// What the new Cluster is otherwise like: the database as it is, its version and its settings; where it is gone, its
/// manifest.
async fn template(cx: &Context) -> Result<DynamicObject> {
    let objects = desired::embedded(cx, Part::Database).await?;
    let cluster = objects.into_iter().find(|object| assets::kind(object) == "Cluster");
    let mut cluster = cluster.ok_or_else(|| failed("there is no manifest of the database"))?;
    let running = database::reference(&cx.config.stack.namespace, &cx.database().await?);
    if let Some(running) = cx.kube().await?.get(&running).await? {
        cluster.data = json!({"spec": running.data["spec"]});
    }
    Ok(cluster)
}

async fn make(
    cx: &Context,
    phase: PhaseId,
    cluster: DynamicObject,
    reference: &ObjectRef,
    deadline: Instant,
) -> Result<()> {
    let kube = cx.kube().await?;
    cx.inventory().await?.record(Part::Restored.name(), std::slice::from_ref(reference)).await?;
    cx.doing(phase, format!("making {reference}"));
    let options = ApplyOptions { force_conflicts: false, dry_run: false, deadline };
    let told = |event: ApplyEvent| {
        if let ApplyEvent::Applied { object, .. } = event {
            cx.doing(phase, format!("{object} is there"));
        }
    };
    apply(kube, &[cluster], options, &told).await?;
    let observer = progress::observer(&cx.reporter, phase);
    let waiting = wait_ready(kube, std::slice::from_ref(reference), deadline, &observer);
    reload::during(cx, phase, &reference.name, deadline, waiting).await
}

/// Deletes a restored Cluster with its volumes: the one that has the UID `uid`, if one is given, and never the one that
/// the app uses.
///
/// # Errors
/// The app uses it, another Cluster has its name by now, or it does not go away in time.
pub async fn discard(cx: &Context, phase: PhaseId, name: &str, uid: Option<&str>, deadline: Instant) -> Result<()> {
    let reference = database::reference(&cx.config.stack.namespace, name);
    let (found, current) = (cx.kube().await?.get(&reference).await?, cx.database().await?);
    if let Some(why) = found.as_ref().and_then(|found| keeps(found, uid, &current)) {
        return Err(failed(format!("{reference} is not deleted: {why}"))
            .remedy("stackctl restore --list shows what there is")
            .into());
    }
    let told = |event| cx.reporter.send(progress::deletion(phase, event));
    let keep = |object: &ObjectRef| !object.same_object(&reference);
    cx.inventory().await?.delete(Part::Restored.name(), &keep, deadline, &told).await?;
    Ok(())
}

/// Tells why a Cluster must not be deleted.
fn keeps(found: &DynamicObject, uid: Option<&str>, current: &str) -> Option<String> {
    if found.metadata.name.as_deref() == Some(current) {
        return Some("the app uses it".into());
    }
    if found.data.pointer("/spec/inheritedMetadata/labels").and_then(|labels| labels.get(SERVES.0)).is_some() {
        return Some("the app's pods are told to use it".into());
    }
    let other = uid.is_some() && found.metadata.uid.as_deref() != uid;
    other.then(|| "it was made anew under this name since".into())
}

/// Has the running database archive what it has committed so far. A moment can only be restored to if the WAL goes on
/// after it: the transaction without content sees to that.
///
/// # Errors
/// No primary, or it does not archive in time.
pub async fn archive_now(cx: &Context, phase: PhaseId) -> Result<()> {
    let kube = cx.kube().await?;
    let (namespace, cluster) = (&cx.config.stack.namespace, cx.database().await?);
    cx.doing(phase, "having the database archive what it has");
    database::query(kube, namespace, &cluster, "select pg_current_xact_id()").await?;
    let segment = database::query(kube, namespace, &cluster, "select pg_walfile_name(pg_switch_wal())").await?;
    let late = || {
        failed(format!("segment {segment} is not archived after {} s", ARCHIVED_WITHIN.as_secs()))
            .remedy("stackctl status tells what is wrong with the archive")
    };
    poll::until_or(ARCHIVED_WITHIN, LOOK_EVERY, late, || async {
        let last = database::query(kube, namespace, &cluster, "select last_archived_wal from pg_stat_archiver").await?;
        // Names of one timeline sort by age; a history file of a new timeline sorts after them.
        Ok((last >= segment).then_some(()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_app_uses_and_what_was_made_since_is_never_deleted() {
        let cluster = |uid: &str, labels: serde_json::Value| -> DynamicObject {
            let spec = json!({"inheritedMetadata": {"labels": labels}});
            let metadata = json!({"name": "db-old", "uid": uid});
            serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
        };
        let (nothing, serves) = (json!({}), json!({SERVES.0: SERVES.1}));
        let cases = [
            (cluster("1", nothing.clone()), Some("1"), "db", None),
            (cluster("1", nothing.clone()), None, "db", None),
            (cluster("2", nothing.clone()), Some("1"), "db", Some("it was made anew under this name since")),
            (cluster("1", nothing), Some("1"), "db-old", Some("the app uses it")),
            (cluster("1", serves), Some("1"), "db", Some("the app's pods are told to use it")),
        ];
        for (found, uid, current, expected) in cases {
            assert_eq!(keeps(&found, uid, current).as_deref(), expected, "{found:?}");
        }
    }
}
