//! Having the app use another database: one that was restored and looked at, or one that it used before. The former one
//! is stopped first, so that no write is acknowledged by a database that the next one is not asked for any more, and
//! stays as it is, with its volumes. Each step finds what an interrupted run has done already, and goes on from there.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, ListParams, Patch},
};
use serde_json::{Value, json};

use super::{SERVES, recovery};
use crate::{
    assets::Part,
    backup::{
        OURS,
        restored::{self, REPLACED, RESTORED},
    },
    context::Context,
    database::{self, Overview, reference, reload},
    desired::patch_to_follow,
    error::{Result, failed, one_line, timed_out, usage},
    kube::{ApplyOptions, ObjectRef, apply, merge_params, wait_ready},
    names::{DATABASE, FAILOVER_HELPER, FIELD_MANAGER, WEB},
    poll, progress,
    ui::{Event, PhaseId, human},
};

/// The operator removes the pods of a Cluster with this annotation, the primary's first, and keeps the volumes.
const HIBERNATION: &str = "cnpg.io/hibernation";
/// How long the former database is given to stop.
const STOPPED_WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What came of it.
#[derive(Debug, Clone)]
pub struct Promoted {
    /// The databases that were stopped.
    pub former: Vec<String>,
    /// From the former database's end until the app's pods use the new one.
    pub paused: Duration,
}

/// Checks that the app can be given the Cluster `name`.
///
/// # Errors
/// There is no such Cluster of this stack, it does not replicate, or the API server does not answer.
pub async fn check(cx: &Context, name: &str) -> Result<()> {
    let (kube, namespace) = (cx.kube().await?, &cx.config.stack.namespace);
    restored::named(&restored::list(kube, namespace, "").await?, name)?;
    let found = kube.get(&reference(namespace, name)).await?;
    if found.is_some_and(|found| found.data.pointer("/spec/postgresql/synchronous").is_none()) {
        return Err(usage(format!("{name} has no standby that confirms commits: the app is not given it"))
            .remedy("restore it once more, without --instances")
            .into());
    }
    Ok(())
}

/// Has the app use the Cluster `name`. The lock must be held.
///
/// # Errors
/// It does not become ready, the former database does not stop, or the app's pods do not become ready.
pub async fn promote(cx: &Context, phase: PhaseId, name: &str, deadline: Instant) -> Result<Promoted> {
    let (kube, namespace) = (cx.kube().await?, &cx.config.stack.namespace);
    let (next, current) = (reference(namespace, name), cx.database().await?);
    cx.doing(phase, format!("waiting until {name} is ready"));
    patch(cx, &next, json!({"metadata": {"annotations": {HIBERNATION: null, REPLACED: null}}})).await?;
    let observer = progress::observer(&cx.reporter, phase);
    let waiting = wait_ready(kube, std::slice::from_ref(&next), deadline, &observer);
    reload::during(cx, phase, name, deadline, waiting).await?;

    if current != name {
        let runs = Overview::read(kube, namespace, &current).await.is_ok_and(|former| former.ready > 0);
        if runs && let Err(error) = recovery::archive_now(cx, phase).await {
            let text =
                format!("the last minute of {current} is not in the store, only on its volumes: {}", one_line(&error));
            cx.reporter.send(Event::Warning { phase, text });
        }
        let former = reference(namespace, &current);
        let (from, to) = (Part::Restored.name(), Part::Database.name());
        cx.inventory().await?.exchange(from, to, &next, &former).await?;
    }
    let began = Instant::now();
    let former = stop_others(cx, phase, name, deadline).await?;
    cx.doing(phase, format!("pointing the app to {name}"));
    // Whichever of them is named: a run that was interrupted may have changed a part.
    let mut others = vec![DATABASE.to_owned()];
    others.extend(restored::list(kube, namespace, name).await?.into_iter().map(|other| other.name));
    point(cx, &others, name, deadline, phase).await?;
    let paused = began.elapsed();
    if let Err(error) = hand_over_helper(cx, &others, name).await {
        let text =
            format!("the failover helper does not look after {name} yet, stackctl up sees to it: {}", one_line(&error));
        cx.reporter.send(Event::Warning { phase, text });
    }
    if let Err(error) = schedule(cx, name).await {
        let text = format!("no base backups are taken of {name} yet, stackctl up sees to it: {}", one_line(&error));
        cx.reporter.send(Event::Warning { phase, text });
    }
    Ok(Promoted { former, paused })
}

/// Stops every other database that the app may still write to.
async fn stop_others(cx: &Context, phase: PhaseId, name: &str, deadline: Instant) -> Result<Vec<String>> {
    let (kube, namespace) = (cx.kube().await?, &cx.config.stack.namespace);
    let api: Api<DynamicObject> = kube.api(&reference(namespace, "")).await?;
    let ours = ListParams::default().labels(OURS);
    let clusters = api.list(&ours).await.context("cannot list the databases")?.items;
    let label = |cluster: &DynamicObject| {
        let labels = cluster.data.pointer("/spec/inheritedMetadata/labels");
        labels.and_then(|labels| labels.get(SERVES.0)).is_some()
    };
    let mut stopped = Vec::new();
    for cluster in clusters.iter().filter(|cluster| label(cluster)) {
        let Some(former) = cluster.metadata.name.as_deref().filter(|former| *former != name) else { continue };
        cx.doing(phase, format!("stopping {former}"));
        let until = human::second(Timestamp::now());
        let change = json!({
            "metadata": {"annotations": {HIBERNATION: "on", REPLACED: until}},
            "spec": {"inheritedMetadata": null},
        });
        patch(cx, &reference(namespace, former), change).await?;
        until_stopped(cx, former, deadline.min(Instant::now() + STOPPED_WITHIN)).await?;
        stopped.push(former.to_owned());
    }
    Ok(stopped)
}

async fn until_stopped(cx: &Context, cluster: &str, deadline: Instant) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(cx.kube().await?.client(), &cx.config.stack.namespace);
    let instances = ListParams::default().labels(&database::instances(cluster));
    let late = || {
        timed_out(format!("{cluster}, which the app uses, does not stop"))
            .remedy("stackctl logs operator says why; run the same command again: it goes on where it stopped")
    };
    poll::until_or(deadline.saturating_duration_since(Instant::now()), LOOK_EVERY, late, || async {
        let left = pods.list(&instances).await.context("cannot list the pods of the former database")?;
        Ok(left.items.is_empty().then_some(()))
    })
    .await
}

/// The app, which names the database by its name. The database is no longer one beside it.
async fn point(cx: &Context, others: &[String], name: &str, deadline: Instant, phase: PhaseId) -> Result<()> {
    let (kube, namespace) = (cx.kube().await?, &cx.config.stack.namespace);
    let labels = json!({"spec": {"inheritedMetadata": {"labels": {SERVES.0: SERVES.1, RESTORED.0: null}}}});
    patch(cx, &reference(namespace, name), labels).await?;
    let app = ObjectRef::namespaced("apps/v1", "Deployment", namespace, WEB);
    if !follow(cx, &app, others, name).await? {
        return Err(failed(format!("there is no {app}")).remedy("stackctl up installs it").into());
    }
    wait_ready(kube, &[app], deadline, &progress::observer(&cx.reporter, phase)).await
}

/// Has the failover helper, where the stack has one, look after `name`.
async fn hand_over_helper(cx: &Context, others: &[String], name: &str) -> Result<()> {
    let namespace = &cx.config.stack.namespace;
    // What it may do first: it would be refused meanwhile.
    let may = ObjectRef::namespaced("rbac.authorization.k8s.io/v1", "Role", namespace, FAILOVER_HELPER);
    follow(cx, &may, others, name).await?;
    let helper = ObjectRef::namespaced("apps/v1", "Deployment", namespace, FAILOVER_HELPER);
    follow(cx, &helper, others, name).await.map(drop)
}

/// Has a live object name the Cluster `name` instead of any of `others`; whether there is such an object.
async fn follow(cx: &Context, object: &ObjectRef, others: &[String], name: &str) -> Result<bool> {
    let Some(live) = cx.kube().await?.get(object).await? else { return Ok(false) };
    if let Some(change) = patch_to_follow(&live, others, name) {
        patch(cx, object, change).await?;
    }
    Ok(true)
}

/// Base backups are taken of `name` from now on, the first one at once: what it archives is of no use without. Which
/// Cluster a schedule is of cannot be changed, so there is a new one.
async fn schedule(cx: &Context, name: &str) -> Result<()> {
    let (kube, namespace) = (cx.kube().await?, &cx.config.stack.namespace);
    let of = |name: &str| ObjectRef::namespaced("postgresql.cnpg.io/v1", "ScheduledBackup", namespace, name);
    let (new, api) = (of(name), kube.api(&of(name)).await?);
    let ours = ListParams::default().labels(OURS);
    let all = api.list(&ours).await.context("cannot list the schedules of base backups")?.items;
    let named = |one: &DynamicObject, wanted: &str| one.metadata.name.as_deref() == Some(wanted);
    if !all.iter().any(|one| named(one, name))
        && let Some(former) = all.first()
    {
        let mut labels = former.metadata.labels.clone().unwrap_or_default();
        labels.insert("app.kubernetes.io/name".into(), name.to_owned());
        let mut spec = former.data["spec"].clone();
        spec["cluster"]["name"] = json!(name);
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": new.api_version, "kind": new.kind,
            "metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": spec,
        }))?;
        cx.inventory().await?.record(Part::Database.name(), std::slice::from_ref(&new)).await?;
        let options = ApplyOptions { force_conflicts: false, dry_run: false, deadline: cx.deadline };
        apply(kube, &[object], options, &|_| {}).await?;
    }
    for former in all.iter().filter(|one| !named(one, name)) {
        let former = former.metadata.name.as_deref().unwrap_or_default();
        api.delete(former, &DeleteParams::default()).await.with_context(|| format!("cannot delete {}", of(former)))?;
    }
    Ok(())
}

async fn patch(cx: &Context, object: &ObjectRef, change: Value) -> Result<()> {
    let params = merge_params(FIELD_MANAGER);
    let api = cx.kube().await?.api(object).await?;
    let changed = api.patch(&object.name, &params, &Patch::Merge(change)).await;
    changed.with_context(|| format!("cannot change {object}"))?;
    Ok(())
}
