//! What the phases that install a part have in common: apply its objects, write down what was applied, remove what left
//! the manifests, wait until it works.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use crate::{
    assets::Part,
    context::Context,
    desired::{self, pull_secret},
    error::Result,
    kube::{ApplyEvent, ApplyOptions, Change, DeleteEvent, ObjectRef, Readiness, WaitEvent, wait_ready},
    progress,
    ui::PhaseId,
};

/// The outcome of applying a part.
pub struct Applied {
    /// All of them, in the order of the manifests.
    pub refs: Vec<ObjectRef>,
    /// Those that were not there before.
    pub created: Vec<ObjectRef>,
    /// Those that were there and were changed.
    pub configured: Vec<ObjectRef>,
    /// Those that were as they should be and ready.
    pub ready: Vec<(ObjectRef, Readiness)>,
    /// How many were created, changed or removed.
    pub changed: usize,
}

/// Applies `part`, records it in the inventory and prunes what is no longer in the assets.
///
/// # Errors
/// What the API server refuses, with the reason and a remedy.
pub async fn apply(cx: &Context, phase: PhaseId, part: Part) -> Result<Applied> {
    let objects = desired::desired(cx, part).await?;
    cx.doing(phase, format!("applying {} objects", objects.len()));
    let options = ApplyOptions { force_conflicts: cx.config.force_conflicts, dry_run: false, deadline: cx.deadline };
    let pruned = AtomicUsize::new(0);
    let on_delete = |event: DeleteEvent| {
        if let DeleteEvent::Deleted(_) = &event {
            pruned.fetch_add(1, Ordering::Relaxed);
        }
        cx.reporter.send(progress::deletion(phase, event));
    };
    let ready = Mutex::new(Vec::new());
    let on_apply = |event: ApplyEvent| {
        cx.reporter.send(match event {
            ApplyEvent::Applied { object, change, readiness } => {
                let shown = progress::change(phase, &object, change);
                if let Some(readiness) = readiness.filter(Readiness::is_ready) {
                    ready.lock().unwrap_or_else(PoisonError::into_inner).push((object, readiness));
                }
                shown
            }
            ApplyEvent::Problem(problem) => progress::problem(phase, problem),
        });
    };
    let changes = cx.inventory().await?.apply(part.name(), &objects, options, &on_apply, &on_delete).await?;
    let applied = changes.iter().filter(|(_, change)| *change != Change::Unchanged).count();
    let those = |wanted: Change| {
        changes.iter().filter(|(_, change)| *change == wanted).map(|(object, _)| object.clone()).collect()
    };
    let (created, configured) = (those(Change::Created), those(Change::Configured));
    let refs = changes.into_iter().map(|(object, _)| object).collect();
    let ready = ready.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Applied { refs, created, configured, ready, changed: applied + pruned.into_inner() })
}

/// Waits until all that was applied is ready, sending what changes and what is in the way. What was seen ready already
/// is not asked for again.
///
/// # Errors
/// Something that cannot recover by itself, or the command's deadline.
pub async fn wait(cx: &Context, phase: PhaseId, applied: &Applied) -> Result<()> {
    cx.doing(phase, "waiting until it is ready");
    let observer = progress::observer(&cx.reporter, phase);
    for (object, readiness) in applied.ready.iter().filter(|(object, _)| object.has_readiness()) {
        observer(WaitEvent::State { object: object.clone(), readiness: readiness.clone() });
    }
    let is_ready = |object: &ObjectRef| applied.ready.iter().any(|(ready, _)| ready == object);
    let slow = applied.refs.iter().filter(|object| object.has_readiness() && !is_ready(object));
    let slow: Vec<ObjectRef> = slow.cloned().collect();
    wait_ready(cx.kube().await?, &slow, cx.deadline, &observer).await
}

/// The plan of a phase that applies `part`: what differs from the cluster, or everything if there is none yet.
///
/// # Errors
/// Upstream's manifest can be neither found in the bundle nor fetched.
pub async fn plan(cx: &Context, part: Part) -> Result<Vec<String>> {
    let mut steps = Vec::new();
    let objects = desired::embedded(cx, part).await?;
    for object in &objects {
        steps.push(format!("apply {}", ObjectRef::of(object)?));
    }
    steps.extend(pull_secret::plan(cx, part, &objects));
    steps.push("wait until they are ready".into());
    Ok(steps)
}

/// The number of objects that were applied, for people: `unchanged` or `3 applied`.
pub fn describe_changes(changed: usize) -> String {
    if changed == 0 { "unchanged".into() } else { format!("{changed} applied") }
}
