//! Server-side apply of many objects: in order, side by side where order allows, with strict validation.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::stream::{self, StreamExt, TryStreamExt};
use kube::{
    api::{DynamicObject, Patch, PatchParams},
    core::Status,
};

use super::{
    Kube, ObjectRef, Problem, WaitEvent,
    api_error::{self, namespace_terminating, webhook_down},
    live::{self, Change, Live},
    readiness::{Readiness, is_ready, readiness},
    refusal::Refusal,
    wait::wait_ready,
};
use crate::{
    error::{Failure, Result, failed, timed_out},
    names::FIELD_MANAGER,
    poll::Tries,
};

/// Requests at the same time.
const CONCURRENCY: usize = 8;
/// How soon after a refusal that may pass the same object is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(700);

/// How to apply.
#[derive(Debug, Clone, Copy)]
pub struct ApplyOptions {
    /// Take over fields that another manager owns.
    pub force_conflicts: bool,
    /// Only ask what would change.
    pub dry_run: bool,
    /// Until when refusals that may pass are tried again.
    pub deadline: Instant,
}

/// What is told while applying.
#[derive(Debug)]
pub enum ApplyEvent {
    /// An object was applied.
    Applied {
        /// Which.
        object: ObjectRef,
        /// What that did.
        change: Change,
        /// How ready it was in the server's answer: `None` for what was changed, and for kinds that are as soon as they
        /// exist.
        readiness: Option<Readiness>,
    },
    /// Something is in the way and tried again, e.g. a webhook that does not answer yet.
    Problem(Problem),
}

/// Where those that want to know are told.
pub type OnApply<'a> = &'a (dyn Fn(ApplyEvent) + Send + Sync);

/// Applies all objects and returns what that did to each, in the order given.
///
/// Namespaces and CRDs go first and CRDs are waited for; then what others refer to; then who has which role; then workloads
/// and custom resources. An admission webhook that does not answer is tried again until the deadline.
///
/// # Errors
/// The first refusal: a conflict (names the other manager and the fields), a field or kind that the
/// cluster does not know, a missing permission, a used-up quota, a namespace that is being deleted.
pub async fn apply(
    kube: &Kube,
    objects: &[DynamicObject],
    options: ApplyOptions,
    on: OnApply<'_>,
) -> Result<Vec<(ObjectRef, Change)>> {
    let mut all = Vec::with_capacity(objects.len());
    for (position, object) in objects.iter().enumerate() {
        all.push((position, ObjectRef::of(object)?, object));
    }
    let mut done: Vec<(usize, ObjectRef, Change)> = Vec::with_capacity(all.len());
    for wave in 0..WAVES {
        let members: Vec<_> = all.iter().filter(|(_, reference, _)| wave_of(reference) == wave).collect();
        if members.is_empty() {
            continue;
        }
        let run = ApplyRun { kube, options, on, set: objects };
        run.wave(&members, &mut done).await?;
    }
    done.sort_by_key(|(position, ..)| *position);
    Ok(done.into_iter().map(|(_, reference, change)| (reference, change)).collect())
}

pub(super) const WAVES: usize = 4;

/// In which wave an object goes; each wave is applied at once.
pub(super) fn wave_of(object: &ObjectRef) -> usize {
    match (object.group(), object.kind.as_str()) {
        ("", "Namespace")
        | ("apiextensions.k8s.io", "CustomResourceDefinition")
        | ("scheduling.k8s.io", "PriorityClass")
        | ("storage.k8s.io", "StorageClass") => 0,
        // Whoever does not have every right himself can give only a role that is there.
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => 2,
        ("apps" | "batch", _) | ("", "Pod") | ("admissionregistration.k8s.io", _) => 3,
        // Built-in groups have no dot or end in k8s.io; whatever else is a custom resource.
        (group, _) if group.contains('.') && !group.ends_with(".k8s.io") => 3,
        _ => 1,
    }
}

struct ApplyRun<'a> {
    kube: &'a Kube,
    options: ApplyOptions,
    on: OnApply<'a>,
    set: &'a [DynamicObject],
}

impl ApplyRun<'_> {
    async fn wave(
        &self,
        members: &[&(usize, ObjectRef, &DynamicObject)],
        done: &mut Vec<(usize, ObjectRef, Change)>,
    ) -> Result<()> {
        let unknown = self.wait_for_kinds(members).await?;
        let mut known = Vec::new();
        for (position, reference, object) in members {
            if unknown.contains(reference) {
                // Only a dry run gets here: the CRD is in the set, but was not created.
                self.tell(reference, Change::Created, None);
                done.push((*position, reference.clone(), Change::Created));
            } else {
                known.push((*position, live::scoped(self.kube, reference).await?, *object));
            }
        }
        let references: Vec<ObjectRef> = known.iter().map(|(_, reference, _)| reference.clone()).collect();
        let before = live::metadata(self.kube, &references).await?;
        let before = &before;
        let requests = known.into_iter().map(|(position, reference, object)| async move {
            let (after, change) = self.one(&reference, object, before).await?;
            self.tell(&reference, change, after.as_ref());
            anyhow::Ok((position, reference, change, after))
        });
        // Collected first: a closure inside the stream would make the future less than Send.
        let requests: Vec<_> = requests.collect();
        let mut results = stream::iter(requests).buffer_unordered(CONCURRENCY);
        let mut definitions = Vec::new();
        while let Some((position, reference, change, after)) = results.try_next().await? {
            if !self.options.dry_run
                && reference.is("apiextensions.k8s.io", "CustomResourceDefinition")
                && after.is_some_and(|object| !is_ready(&object))
            {
                definitions.push(reference.clone());
            }
            done.push((position, reference, change));
        }
        if !definitions.is_empty() {
            let forward = |event: WaitEvent| {
                if let WaitEvent::Problem(problem) = event {
                    (self.on)(ApplyEvent::Problem(problem));
                }
            };
            wait_ready(self.kube, &definitions, self.options.deadline, &forward)
                .await
                .context("the new kinds are not served")?;
            self.kube.refresh().await?;
        }
        Ok(())
    }

    fn tell(&self, object: &ObjectRef, change: Change, after: Option<&DynamicObject>) {
        // Controllers have not seen yet what was just changed: its status is of before.
        let readiness = after.filter(|_| change == Change::Unchanged).and_then(readiness);
        (self.on)(ApplyEvent::Applied { object: object.clone(), change, readiness });
    }

    /// Makes sure that the cluster knows the kinds of `members`; a CRD that was just established may take
    /// moments to be listed. Returns those that a dry run cannot know.
    async fn wait_for_kinds(&self, members: &[&(usize, ObjectRef, &DynamicObject)]) -> Result<BTreeSet<ObjectRef>> {
        let unknown = || -> BTreeSet<ObjectRef> {
            let references = members.iter().map(|(_, reference, _)| reference);
            references.filter(|reference| self.kube.known(reference).is_none()).cloned().collect()
        };
        let mut missing = unknown();
        let give_up = self.options.deadline.min(Instant::now() + Duration::from_secs(20));
        let mut tries = Tries::until(give_up, Duration::from_millis(200));
        while let Some(first) = missing.first() {
            let defined_here = self.defines(first);
            if self.options.dry_run && missing.iter().all(|reference| self.defines(reference)) {
                return Ok(missing);
            }
            self.kube.refresh().await?;
            let first = first.clone();
            missing = unknown();
            if missing.contains(&first) && (!defined_here || !tries.another().await) {
                // Asks once more and fails with the words for the user.
                self.kube.resolve(&first).await?;
            }
        }
        Ok(missing)
    }

    /// Whether a CRD in the set defines the kind.
    fn defines(&self, reference: &ObjectRef) -> bool {
        self.set.iter().any(|object| {
            object.types.as_ref().is_some_and(|types| types.kind == "CustomResourceDefinition")
                && object.data.pointer("/spec/group").and_then(|group| group.as_str()) == Some(reference.group())
                && object.data.pointer("/spec/names/kind").and_then(|kind| kind.as_str()) == Some(&reference.kind)
        })
    }

    async fn one(
        &self,
        reference: &ObjectRef,
        object: &DynamicObject,
        before: &HashMap<ObjectRef, Live>,
    ) -> Result<(Option<DynamicObject>, Change)> {
        let body = without_what_the_cluster_owns(object);
        let api = self.kube.api(reference).await?;
        let params = PatchParams {
            dry_run: self.options.dry_run,
            force: self.options.force_conflicts,
            ..PatchParams::apply(FIELD_MANAGER).validation_strict()
        };
        let patch = Patch::Apply(&body);
        let doing = format!("apply {reference}");
        let (mut told, mut tries) = (false, Tries::until(self.options.deadline, RETRY_AFTER));
        loop {
            let request = api.patch(&reference.name, &params, &patch);
            let error = match tokio::time::timeout(super::client::REQUEST_TIMEOUT, request).await {
                Ok(Ok(after)) => {
                    let change = live::change(before.get(reference), &Live::of(&after.metadata));
                    return Ok((Some(after), change));
                }
                Ok(Err(error)) => error,
                Err(_) => return Err(timed_out(format!("cannot {doing}: the API server does not answer")).into()),
            };
            let may_pass = match &error {
                kube::Error::Api(status) if status.code == 404 && self.options.dry_run => {
                    // Its namespace is part of the set and does not exist yet.
                    return Ok((None, Change::Created));
                }
                kube::Error::Api(status) => webhook_down(status) || api_error::transient_status(status),
                other => api_error::transient(other),
            };
            if !may_pass {
                return Err(refusal(&error, &doing).into());
            }
            if let kube::Error::Api(status) = &error
                && webhook_down(status)
                && !std::mem::replace(&mut told, true)
            {
                (self.on)(ApplyEvent::Problem(webhook_problem(reference, status)));
            }
            if !tries.another().await {
                return Err(refusal(&error, &doing).into());
            }
        }
    }
}

/// What applying an object would make of it, forced; `None` when its namespace does not exist. The object's
/// kind must be known.
pub(super) async fn dry_run(
    kube: &Kube,
    reference: &ObjectRef,
    object: &DynamicObject,
    deadline: Instant,
) -> Result<Option<DynamicObject>> {
    let options = ApplyOptions { force_conflicts: true, dry_run: true, deadline };
    let run = ApplyRun { kube, options, on: &|_| {}, set: &[] };
    Ok(run.one(reference, object, &HashMap::new()).await?.0)
}

/// What a manifest may carry and never is ours to say.
pub(super) fn without_what_the_cluster_owns(object: &DynamicObject) -> DynamicObject {
    let mut body = object.clone();
    body.metadata.managed_fields = None;
    body.metadata.resource_version = None;
    body.metadata.uid = None;
    body.metadata.creation_timestamp = None;
    body.metadata.generation = None;
    if let Some(fields) = body.data.as_object_mut() {
        fields.remove("status");
    }
    body
}

fn webhook_problem(object: &ObjectRef, status: &Status) -> Problem {
    Problem {
        object: object.clone(),
        reason: "WebhookUnavailable".into(),
        message: status.message.clone(),
        last_event: None,
        last_log: Vec::new(),
        remedy: Some("usual for seconds after its Deployment starts; it is tried again until the deadline".into()),
        fatal: false,
    }
}

/// A refused apply in words for the user.
fn refusal(error: &kube::Error, doing: &str) -> Failure {
    let kube::Error::Api(status) = error else { return api_error::failure(error, doing) };
    if namespace_terminating(status) {
        return api_error::status_failure(status, doing);
    }
    if status.code == 409 {
        return conflict(status, doing);
    }
    if status.message.contains("unknown field") || status.message.contains("field not declared in schema") {
        return failed(format!("cannot {doing}: the cluster does not know a field of it: {}", status.message.trim()))
            .remedy("correct the field's name, or use a cluster version that knows it");
    }
    if status.code == 422 && Refusal::of(&status.message).is_none() {
        return failed(format!("cannot {doing}: {}", status.message.trim()));
    }
    if status.code == 404 {
        return failed(format!("cannot {doing}: {}", status.message.trim()))
            .remedy("create its namespace first: kubectl create namespace NAME");
    }
    api_error::status_failure(status, doing)
}

/// Names the other managers and the fields that they own.
fn conflict(status: &Status, doing: &str) -> Failure {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    let mut by_manager: Vec<(String, Vec<&str>)> = Vec::new();
    for cause in causes.iter().filter(|cause| cause.reason == "FieldManagerConflict") {
        // The API puts the name only into the text: conflict with "NAME" using apps/v1 at …
        let manager = cause.message.split('"').nth(1).unwrap_or("another manager").to_owned();
        match by_manager.iter_mut().find(|(name, _)| *name == manager) {
            Some((_, fields)) => fields.push(&cause.field),
            None => by_manager.push((manager, vec![&cause.field])),
        }
    }
    if by_manager.is_empty() {
        return failed(format!("cannot {doing}: {}", status.message.trim()));
    }
    let owners: Vec<String> =
        by_manager.iter().map(|(manager, fields)| format!("{manager:?} owns {}", fields.join(", "))).collect();
    failed(format!("cannot {doing}: it conflicts with another field manager: {}", owners.join("; ")))
        .remedy("take these fields over with --force-conflicts, or remove them from the other manager's manifest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves() {
        for (api_version, kind, wave) in [
            ("v1", "Namespace", 0),
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition", 0),
            ("v1", "ConfigMap", 1),
            ("rbac.authorization.k8s.io/v1", "ClusterRole", 1),
            ("autoscaling/v2", "HorizontalPodAutoscaler", 1),
            ("rbac.authorization.k8s.io/v1", "RoleBinding", 2),
            ("apps/v1", "Deployment", 3),
            ("postgresql.cnpg.io/v1", "Cluster", 3),
            ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", 3),
        ] {
            assert_eq!(wave_of(&ObjectRef::cluster(api_version, kind, "x")), wave, "{kind}");
        }
    }

    #[test]
    fn a_conflict_names_every_manager_with_its_fields() {
        let cause = |manager: &str, field: &str| {
            serde_json::json!({"reason": "FieldManagerConflict", "field": field,
                "message": format!("conflict with \"{manager}\" using apps/v1")})
        };
        let status: Status = serde_json::from_value(serde_json::json!({
            "code": 409, "reason": "Conflict", "message": "Apply failed with 3 conflicts",
            "details": {"causes": [cause("kubectl", ".a"), cause("helm", ".b"), cause("kubectl", ".c")]},
        }))
        .unwrap();
        let failure = conflict(&status, "apply Deployment a/b");
        assert!(failure.message.ends_with("\"kubectl\" owns .a, .c; \"helm\" owns .b"), "{}", failure.message);
        assert!(failure.remedies[0].contains("--force-conflicts"));
    }
}
