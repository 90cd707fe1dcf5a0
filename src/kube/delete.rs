//! Deleting objects and waiting until they are gone.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};
use kube::api::{DeleteParams, Preconditions, PropagationPolicy};

use super::{Entry, Kube, ObjectRef, Problem, api_error, apply::wave_of, explain, keep_data, live};
use crate::{
    error::{Result, timed_out},
    poll::Tries,
};

/// Requests at the same time.
const CONCURRENCY: usize = 8;
/// What is not gone by then is looked into.
const LOOK_AFTER: Duration = Duration::from_secs(12);

/// What is told while deleting.
#[derive(Debug)]
pub enum DeleteEvent {
    /// It is being deleted.
    Deleting(ObjectRef),
    /// It is gone, or was not there.
    Deleted(ObjectRef),
    /// It stays; the text says why.
    Kept(ObjectRef, String),
    /// Something holds an object; told once.
    Problem(Problem),
}

/// Where those that want to know are told.
pub type OnDelete<'a> = &'a (dyn Fn(DeleteEvent) + Send + Sync);

/// Deletes in the reverse of the order of applying: workloads and custom resources, then what they refer
/// to, then namespaces and CRDs; each step waits until its objects, and what they own, are gone.
pub(super) async fn delete(
    kube: &Kube,
    entries: &[Entry],
    deadline: Instant,
    on: OnDelete<'_>,
) -> Result<Vec<ObjectRef>> {
    let mut gone = Vec::new();
    let mut ours = Vec::new();
    for entry in entries {
        if entry.adopted {
            on(DeleteEvent::Kept(entry.object.clone(), "it was there before stackctl".into()));
        } else if !kube.knows(&entry.object.api_version, &entry.object.kind).await? {
            // Objects go with their kind.
            on(DeleteEvent::Deleted(entry.object.clone()));
            gone.push(entry.object.clone());
        } else {
            ours.push(live::scoped(kube, &entry.object).await?);
        }
    }
    for wave in (0..super::apply::WAVES).rev() {
        let members: Vec<ObjectRef> = ours.iter().rev().filter(|object| wave_of(object) == wave).cloned().collect();
        gone.extend(delete_together(kube, members, deadline, on).await?);
    }
    Ok(gone)
}

async fn delete_together(
    kube: &Kube,
    members: Vec<ObjectRef>,
    deadline: Instant,
    on: OnDelete<'_>,
) -> Result<Vec<ObjectRef>> {
    let found = live::metadata(kube, &members).await?;
    let mut leaving = Vec::new();
    let mut gone = Vec::new();
    for object in members {
        match found.get(&object) {
            None => {
                on(DeleteEvent::Deleted(object.clone()));
                gone.push(object);
            }
            Some(live) if !live.is_ours() => {
                on(DeleteEvent::Kept(object, "somebody else has made it anew since".into()));
            }
            Some(live) if live.adopted => {
                on(DeleteEvent::Kept(object, "it was there before stackctl".into()));
            }
            Some(live) => leaving.push((object, live.uid.clone())),
        }
    }
    let requests = leaving.iter().map(|(object, uid)| async move {
        on(DeleteEvent::Deleting(object.clone()));
        request(kube, object, uid).await
    });
    // Collected first: a closure inside the stream would make the future less than Send.
    let requests: Vec<_> = requests.collect();
    stream::iter(requests).buffer_unordered(CONCURRENCY).try_collect::<Vec<()>>().await?;
    gone.extend(until_gone(kube, leaving, deadline, on).await?);
    Ok(gone)
}

/// Asks for the deletion of exactly the object with this uid; of a workload, of what it owns before it.
async fn request(kube: &Kube, object: &ObjectRef, uid: &str) -> Result<()> {
    let api = kube.api(object).await?;
    // Only what runs things is worth waiting for what it owns: the garbage collector takes its time.
    let owner = wave_of(object) == super::apply::WAVES - 1;
    let params = DeleteParams {
        propagation_policy: Some(if owner { PropagationPolicy::Foreground } else { PropagationPolicy::Background }),
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    if object.is("postgresql.cnpg.io", "Cluster") {
        keep_data::unpin(kube, object).await?;
    }
    let doing = format!("delete {object}");
    match kube.attempt(&doing, || api.delete(&object.name, &params)).await? {
        Ok(_) => Ok(()),
        // Gone, or another one by that name; neither is ours any more. A namespace that ends already says conflict.
        Err(status) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(status) => Err(api_error::status_failure(&status, &doing).into()),
    }
}

/// Waits until objects, named with their uid, are gone.
pub(super) async fn until_gone(
    kube: &Kube,
    mut leaving: Vec<(ObjectRef, String)>,
    deadline: Instant,
    on: OnDelete<'_>,
) -> Result<Vec<ObjectRef>> {
    let began = Instant::now();
    let mut tries = Tries::until(deadline, Duration::from_millis(100)).slower(Duration::from_secs(1));
    let mut gone = Vec::new();
    let mut problems: Vec<Problem> = Vec::new();
    loop {
        let references: Vec<ObjectRef> = leaving.iter().map(|(object, _)| object.clone()).collect();
        let found = live::metadata(kube, &references).await?;
        leaving.retain(|(object, uid)| {
            let still = found.get(object).is_some_and(|live| live.uid == *uid);
            if !still {
                on(DeleteEvent::Deleted(object.clone()));
                gone.push(object.clone());
            }
            still
        });
        if leaving.is_empty() {
            return Ok(gone);
        }
        if began.elapsed() > LOOK_AFTER {
            for (object, _) in &leaving {
                let Ok(Some(live)) = kube.get(object).await else { continue };
                let Some(problem) = explain::held(object, &live) else { continue };
                if !problems.iter().any(|known| known.object == problem.object && known.reason == problem.reason) {
                    on(DeleteEvent::Problem(problem.clone()));
                    problems.push(problem);
                }
            }
        }
        if !tries.another().await {
            let names: Vec<String> = leaving.iter().map(|(object, _)| object.to_string()).collect();
            let mut message = format!("not gone in time: {}", names.join(", "));
            let mut failure = timed_out("");
            for problem in problems.iter().filter(|problem| names.contains(&problem.object.to_string())) {
                message.push_str(&format!("; {}", problem.sentence()));
                if let Some(remedy) = &problem.remedy {
                    failure = failure.remedy(remedy);
                }
            }
            failure.message = message;
            return Err(failure.remedy("run the same command again: it goes on where it stopped").into());
        }
    }
}
