//! What the phases that install a part have in common: make the objects ready, apply them, write down
//! what was applied, remove what left the assets, wait until it works.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::Context as _;
use kube::core::DynamicObject;

use crate::{
    assets::{self, Images, Part},
    backup::restored,
    context::Context,
    error::Result,
    fetch,
    kube::{ApplyEvent, ApplyOptions, Change, DeleteEvent, ObjectRef, Problem, Readiness, WaitEvent, wait_ready},
    names::DATABASE,
    phases::{backup, image, monitoring},
    ui::{Event, Reporter, State},
};

/// Which image stands for which name: pinned, from the bundle, or the web image of this binary.
///
/// # Errors
/// Only if an embedded file is broken.
pub fn images(cx: &Context) -> Result<Images> {
    let of_bundle = |name: &str| cx.bundle.as_ref()?.component(name)?.image.clone();
    Ok(Images::new(&assets::components()?, of_bundle, image::name(&cx.config)))
}

/// The objects of `part`, ready to apply.
///
/// # Errors
/// Upstream's manifest can be neither found in the bundle nor fetched.
pub async fn objects(cx: &Context, part: Part) -> Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    let backup = backup::wanted(cx);
    match part {
        Part::Operator => {
            objects.extend(assets::parse(&release_manifest(cx, "cnpg-operator").await?, "the operator's manifest")?);
        }
        Part::Backup if backup.is_some() => {
            let text = release_manifest(cx, "plugin-barman-cloud").await?;
            objects.extend(assets::backup::upstream(assets::parse(&text, "the plugin's manifest")?));
        }
        _ => {}
    }
    let mut embedded = part.embedded()?;
    assets::of_cluster(&mut embedded, &cx.known_database());
    objects.extend(embedded);
    let stack = &cx.config.stack;
    let mut objects = assets::render(part, objects, stack, &images(cx)?);
    assets::backup::finish(part, &mut objects, backup, stack.storage_class.as_deref());
    Ok(objects)
}

/// As [`objects`], and what of `part` depends on the cluster that there is: what it has a use for, and Secrets that are
/// made once and then kept.
///
/// # Errors
/// As [`objects`], or the cluster does not answer.
pub async fn complete(cx: &Context, part: Part) -> Result<Vec<DynamicObject>> {
    // Which database the manifests are about.
    cx.inventory().await?;
    match part {
        Part::Database => database(cx).await,
        Part::Backup => backup::objects(cx).await,
        Part::Monitoring => monitoring::objects(cx).await,
        Part::Restored => beside(cx).await,
        _ => objects(cx, part).await,
    }
}

async fn database(cx: &Context) -> Result<Vec<DynamicObject>> {
    let mut objects = objects(cx, Part::Database).await?;
    for object in &mut objects {
        let reference = ObjectRef::of(object)?;
        if reference.kind == "Cluster"
            && reference.name != DATABASE
            && let Some(live) = cx.kube().await?.get(&reference).await?
        {
            restored::keep_origin(object, &live);
        }
    }
    Ok(objects)
}

/// Restored databases are wanted as they are.
async fn beside(cx: &Context) -> Result<Vec<DynamicObject>> {
    let (kube, inventory) = (cx.kube().await?, cx.inventory().await?);
    let mut objects = Vec::new();
    for entry in inventory.entries(Part::Restored.name()) {
        let Some(mut object) = kube.get(&entry.object).await? else { continue };
        // What no manifest may say.
        object.metadata.managed_fields = None;
        object.metadata.resource_version = None;
        object.data = serde_json::json!({"spec": object.data["spec"]});
        objects.push(object);
    }
    Ok(objects)
}

/// An object that is in no manifest, made ready to apply as one of `part`.
///
/// # Errors
/// Only if an embedded file is broken.
pub fn labelled(cx: &Context, part: Part, object: DynamicObject) -> Result<Vec<DynamicObject>> {
    Ok(assets::render(part, vec![object], &cx.config.stack, &images(cx)?))
}

/// Without a bundle images come from their registries; with one, there may be none in reach.
pub fn holds(cx: &Context, component: &str) -> bool {
    cx.bundle.as_ref().is_none_or(|bundle| bundle.component(component).is_some_and(|found| found.image.is_some()))
}

/// A component's own release manifest: from the bundle, or downloaded once and cached; verified either way.
async fn release_manifest(cx: &Context, component: &str) -> Result<String> {
    let path = match &cx.bundle {
        Some(bundle) => {
            let manifest = bundle.component(component).and_then(|component| component.manifest.as_deref());
            bundle.verified(manifest.with_context(|| format!("the bundle has no manifest of {component}"))?)?
        }
        None => {
            let components = assets::components()?;
            let manifest = components.get(component).and_then(|component| component.manifest.as_ref());
            let manifest = manifest.with_context(|| format!("{component} has no manifest"))?;
            fetch::fetch(&cx.config.folders.cache, &manifest.url, &manifest.sha256, |_, _| {}).await?
        }
    };
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// What was done to the objects of a part.
pub struct Applied {
    /// All of them, in the order of the manifests.
    pub refs: Vec<ObjectRef>,
    /// Those that were not there before.
    pub created: Vec<ObjectRef>,
    /// Those that were as they should be and ready.
    pub ready: Vec<(ObjectRef, Readiness)>,
    /// How many were created, changed or removed.
    pub changed: usize,
}

/// Applies `part`, records it in the inventory and prunes what is no longer in the assets.
///
/// # Errors
/// What the API server refuses, with the reason and a remedy.
pub async fn apply(cx: &Context, phase: &str, part: Part) -> Result<Applied> {
    let objects = complete(cx, part).await?;
    cx.doing(phase, format!("applying {} objects", objects.len()));
    let options = ApplyOptions { force_conflicts: cx.config.force_conflicts, dry_run: false, deadline: cx.deadline };
    let pruned = AtomicUsize::new(0);
    let on_delete = |event: DeleteEvent| {
        if let DeleteEvent::Deleted(_) = &event {
            pruned.fetch_add(1, Ordering::Relaxed);
        }
        cx.reporter.send(deleting(phase, event));
    };
    let ready = Mutex::new(Vec::new());
    let on_apply = |event: ApplyEvent| {
        cx.reporter.send(match event {
            ApplyEvent::Applied { object, change, readiness } => {
                let shown = resource(phase, &object, state(change), "");
                if let Some(readiness) = readiness.filter(Readiness::is_ready) {
                    ready.lock().unwrap_or_else(PoisonError::into_inner).push((object, readiness));
                }
                shown
            }
            ApplyEvent::Problem(problem) => in_the_way(phase, problem),
        });
    };
    let changes = cx.inventory().await?.apply(part.name(), &objects, options, &on_apply, &on_delete).await?;
    let applied = changes.iter().filter(|(_, change)| *change != Change::Unchanged).count();
    let created =
        changes.iter().filter(|(_, change)| *change == Change::Created).map(|(object, _)| object.clone()).collect();
    let refs = changes.into_iter().map(|(object, _)| object).collect();
    let ready = ready.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Applied { refs, created, ready, changed: applied + pruned.into_inner() })
}

/// Waits until all that was applied is ready, sending what changes and what is in the way. What was seen ready already
/// is not asked for again.
///
/// # Errors
/// Something that cannot recover by itself, or the command's deadline.
pub async fn wait(cx: &Context, phase: &str, applied: &Applied) -> Result<()> {
    cx.doing(phase, "waiting until it is ready");
    let observer = observer(&cx.reporter, phase);
    for (object, readiness) in applied.ready.iter().filter(|(object, _)| object.has_readiness()) {
        observer(WaitEvent::State { object: object.clone(), readiness: readiness.clone() });
    }
    let is_ready = |object: &ObjectRef| applied.ready.iter().any(|(ready, _)| ready == object);
    let slow = applied.refs.iter().filter(|object| object.has_readiness() && !is_ready(object));
    let slow: Vec<ObjectRef> = slow.cloned().collect();
    wait_ready(cx.kube().await?, &slow, cx.deadline, &observer).await
}

/// Turns what a wait sees into events of `phase`.
pub fn observer(reporter: &Reporter, phase: &str) -> impl Fn(WaitEvent) + Send + Sync + use<> {
    let (reporter, phase) = (reporter.clone(), phase.to_owned());
    move |event| {
        reporter.send(match event {
            WaitEvent::State { object, readiness } => {
                let (state, detail) = match &readiness {
                    Readiness::Ready(detail) => (State::Ready, detail.clone()),
                    Readiness::Progressing(detail) => (State::Waiting, detail.clone()),
                    Readiness::Failed { reason, message } => (State::Failed, format!("{reason}: {message}")),
                };
                resource(&phase, &object, state, &detail)
            }
            WaitEvent::Problem(problem) => in_the_way(&phase, problem),
        });
    }
}

/// The plan of a phase that applies `part`: what differs from the cluster, or everything if there is none yet.
///
/// # Errors
/// Upstream's manifest can be neither found in the bundle nor fetched.
pub async fn plan(cx: &Context, part: Part) -> Result<Vec<String>> {
    let mut steps = Vec::new();
    for object in objects(cx, part).await? {
        steps.push(format!("apply {}", ObjectRef::of(&object)?));
    }
    steps.push("wait until they are ready".into());
    Ok(steps)
}

fn resource(phase: &str, object: &ObjectRef, state: State, detail: &str) -> Event {
    Event::Resource { phase: phase.into(), resource: object.to_string(), state, detail: detail.into() }
}

/// A deletion as an event of `phase`.
pub fn deleting(phase: &str, event: DeleteEvent) -> Event {
    match event {
        DeleteEvent::Deleting(object) => resource(phase, &object, State::Waiting, "being deleted"),
        DeleteEvent::Deleted(object) => resource(phase, &object, State::Deleted, ""),
        DeleteEvent::Kept(object, why) => resource(phase, &object, State::Unchanged, &format!("kept: {why}")),
        DeleteEvent::Problem(problem) => in_the_way(phase, problem),
    }
}

/// A problem with everything that is known of it, as an event of `phase`.
fn in_the_way(phase: &str, problem: Problem) -> Event {
    Event::Problem {
        phase: phase.into(),
        resource: problem.object.to_string(),
        reason: problem.reason,
        message: problem.message,
        last_event: problem.last_event,
        last_log: problem.last_log,
        remedy: problem.remedy,
        fatal: problem.fatal,
    }
}

fn state(change: Change) -> State {
    match change {
        Change::Created => State::Created,
        Change::Configured => State::Configured,
        Change::Unchanged => State::Unchanged,
    }
}

/// `unchanged` or `3 changed`.
pub fn changes(changed: usize) -> String {
    if changed == 0 { "unchanged".into() } else { format!("{changed} applied") }
}
