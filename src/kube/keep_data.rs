//! Removing a CloudNativePG `Cluster` while its volumes stay, so that a `Cluster` of the same name finds them.
//!
//! The operator takes over PersistentVolumeClaims that carry its labels and have no owner, and starts the
//! instances on them. To let go of them in order, the `Cluster` is deleted but held by a finalizer of ours: from
//! then on the operator leaves it alone, so nothing is started or promoted while the instances are stopped. When
//! the claims have no owner any more, the finalizer goes, and the garbage collector removes everything else.
//! Each step looks at what is there: an interrupted run goes on where it stopped.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::json;

use super::{Kube, ObjectRef, api_error, merge_params};
use crate::{
    error::{Result, failed, timed_out},
    names::{FIELD_MANAGER, INSTANCE_ROLE},
    poll::Tries,
};

const FINALIZER: &str = "stackctl/keep-volumes";
/// What the operator was doing when the `Cluster` was deleted is over by then.
const SETTLE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(500);
/// How often a write that others were faster with is repeated.
const ATTEMPTS: usize = 10;
/// What the operator makes for a `Cluster`, apart from pods and claims.
const OWNED: [(&str, &str); 6] = [
    ("v1", "Service"),
    ("v1", "Secret"),
    ("v1", "ServiceAccount"),
    ("policy/v1", "PodDisruptionBudget"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("coordination.k8s.io/v1", "Lease"),
];

/// Stops the instances of `cluster` cleanly, the primary first, and removes it and everything of it but its
/// claims. It is no error when it is gone already. `on` is told each step.
///
/// # Errors
/// A failover is under way; a claim that is being deleted already; an instance that does not stop by `deadline`.
pub async fn release_volumes(
    kube: &Kube,
    namespace: &str,
    cluster: &str,
    deadline: Instant,
    on: &(dyn Fn(&str) + Send + Sync),
) -> Result<()> {
    let object = ObjectRef::namespaced("postgresql.cnpg.io/v1", "Cluster", namespace, cluster);
    let Some(found) = kube.get(&object).await? else { return Ok(()) };
    let release = Release { kube, namespace, cluster: object, uid: found.uid().unwrap_or_default(), deadline };
    on("checking the volumes");
    release.check(&found).await?;
    release.take(found).await?;
    on("stopping the primary");
    release.stop(true).await?;
    on("stopping the standbys");
    release.stop(false).await?;
    on("letting go of the volumes");
    release.label().await?;
    let kept = release.disown().await?;
    unpin(kube, &release.cluster).await?;
    on("removing what belongs to the database");
    release.until_gone().await?;
    on(&format!("kept: {}", kept.join(", ")));
    Ok(())
}

/// Ends what an interrupted [`release_volumes`] began, so that the `Cluster` can be applied again.
///
/// # Errors
/// See [`release_volumes`].
pub async fn wake(kube: &Kube, namespace: &str, cluster: &str, deadline: Instant) -> Result<()> {
    let object = ObjectRef::namespaced("postgresql.cnpg.io/v1", "Cluster", namespace, cluster);
    match kube.get(&object).await? {
        Some(found) if !found.finalizers().iter().any(|one| one == FINALIZER) => Ok(()),
        Some(found) if found.metadata.deletion_timestamp.is_none() => unpin(kube, &object).await,
        Some(_) => release_volumes(kube, namespace, cluster, deadline, &|_| {}).await,
        None => Ok(()),
    }
}

/// Takes the finalizer off a `Cluster` that an interrupted [`release_volumes`] left, so that it can be deleted
/// with its volumes after all.
pub(super) async fn unpin(kube: &Kube, cluster: &ObjectRef) -> Result<()> {
    set_finalizer(kube, cluster, false).await
}

struct Release<'a> {
    kube: &'a Kube,
    namespace: &'a str,
    cluster: ObjectRef,
    uid: String,
    deadline: Instant,
}

impl Release<'_> {
    /// Nothing is stopped unless the volumes can be kept and it is known which one is the primary's.
    async fn check(&self, cluster: &DynamicObject) -> Result<()> {
        let claims = self.claims().await?;
        if let Some(leaving) = claims.iter().find(|claim| claim.metadata.deletion_timestamp.is_some()) {
            return Err(failed(format!(
                "the volumes of {} cannot be kept: PersistentVolumeClaim {} is being deleted already",
                self.cluster,
                leaving.name_any()
            ))
            .remedy("run the same command without --keep-data")
            .into());
        }
        let status = |field: &str| cluster.data["status"][field].as_str().unwrap_or_default().to_owned();
        let (current, target) = (status("currentPrimary"), status("targetPrimary"));
        if current.is_empty() || current != target {
            if cluster.metadata.deletion_timestamp.is_some() {
                return Ok(());
            }
            return Err(failed(format!("{} has no settled primary at the moment", self.cluster))
                .remedy("wait until stackctl status shows it ready, then run the same command again")
                .into());
        }
        Ok(())
    }

    /// Says which claim is the primary's, for the operator to start the next primary on. Asked when nothing runs
    /// any more: an operator that was at work when the primary stopped may have had a standby promoted.
    async fn label(&self) -> Result<()> {
        let Some(cluster) = self.kube.get(&self.cluster).await? else { return Ok(()) };
        let current = cluster.data["status"]["currentPrimary"].as_str().unwrap_or_default();
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.kube.client(), self.namespace);
        let params = PatchParams::default();
        for claim in self.claims().await? {
            let instance = claim.labels().get("cnpg.io/instanceName").map_or("", String::as_str);
            let role = if instance == current { "primary" } else { "replica" };
            if !current.is_empty() && claim.labels().get(INSTANCE_ROLE).is_none_or(|label| label != role) {
                let patch = Patch::Merge(json!({"metadata": {"labels": {INSTANCE_ROLE: role, "role": role}}}));
                let doing = format!("label PersistentVolumeClaim {}/{}", self.namespace, claim.name_any());
                self.kube.call(&doing, || api.patch(claim.meta_name(), &params, &patch)).await?;
            }
        }
        Ok(())
    }

    /// Deletes the `Cluster`, held by our finalizer.
    async fn take(&self, found: DynamicObject) -> Result<()> {
        if found.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        set_finalizer(self.kube, &self.cluster, true).await?;
        let api = self.kube.api(&self.cluster).await?;
        let doing = format!("delete {}", self.cluster);
        let params = DeleteParams::background();
        match self.kube.attempt(&doing, || api.delete(&self.cluster.name, &params)).await? {
            Ok(_) => {
                tokio::time::sleep(SETTLE).await;
                Ok(())
            }
            Err(status) if status.is_not_found() => Ok(()),
            Err(status) => {
                unpin(self.kube, &self.cluster).await?;
                Err(api_error::status_failure(&status, &doing).into())
            }
        }
    }

    /// Deletes the primary's pod, or all pods, and waits until they are gone: an instance stops with a
    /// checkpoint, and a primary sends all of its log to the standbys that still run.
    async fn stop(&self, primary_only: bool) -> Result<()> {
        let api: Api<Pod> = Api::namespaced(self.kube.client(), self.namespace);
        let labelled = self.labelled();
        loop {
            let listed = self.kube.call("list the database's pods", || api.list(&labelled)).await?;
            let pods: Vec<&Pod> = listed
                .items
                .iter()
                .filter(|pod| !primary_only || pod.labels().get(INSTANCE_ROLE).is_some_and(|role| role == "primary"))
                .collect();
            if pods.is_empty() {
                return Ok(());
            }
            for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
                let doing = format!("stop Pod {}/{}", self.namespace, pod.name_any());
                let params = DeleteParams::default();
                match self.kube.attempt(&doing, || api.delete(pod.meta_name(), &params)).await? {
                    Ok(_) => {}
                    Err(status) if status.is_not_found() => {}
                    Err(status) => return Err(api_error::status_failure(&status, &doing).into()),
                }
            }
            let names: Vec<String> = pods.iter().map(|pod| pod.name_any()).collect();
            self.pause(&format!("these pods did not stop: {}", names.join(", "))).await?;
        }
    }

    /// Takes the owner off the claims; returns their names.
    async fn disown(&self) -> Result<Vec<String>> {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.kube.client(), self.namespace);
        let params = PatchParams::default();
        let mut names = Vec::new();
        for claim in self.claims().await? {
            let doing = format!("keep PersistentVolumeClaim {}/{}", self.namespace, claim.name_any());
            if owned_by(&claim.metadata, &self.uid) {
                let owners: Vec<_> =
                    claim.owner_references().iter().filter(|owner| owner.uid != self.uid).cloned().collect();
                // Bound to the uid: a claim of the same name that was made since is another one.
                let patch = Patch::Merge(json!({"metadata": {"uid": claim.metadata.uid, "ownerReferences": owners}}));
                self.kube.call(&doing, || api.patch(claim.meta_name(), &params, &patch)).await?;
            }
            names.push(format!("PersistentVolumeClaim {}/{}", self.namespace, claim.name_any()));
        }
        Ok(names)
    }

    /// Waits for the end of the `Cluster` and of what the garbage collector removes after it: what is left would
    /// be in the way of a new one.
    async fn until_gone(&self) -> Result<()> {
        loop {
            let mut left = Vec::new();
            if self.kube.get(&self.cluster).await?.is_some_and(|now| now.uid().as_deref() == Some(&self.uid)) {
                left.push(self.cluster.to_string());
            }
            for (api_version, kind) in OWNED {
                let any = ObjectRef::namespaced(api_version, kind, self.namespace, "");
                let api = self.kube.api(&any).await?;
                let doing = format!("list {kind} objects");
                let all = ListParams::default();
                let listed = self.kube.call(&doing, || api.list_metadata(&all)).await?;
                let mine = listed.items.iter().filter(|item| owned_by(&item.metadata, &self.uid));
                left.extend(mine.map(|item| format!("{kind} {}/{}", self.namespace, item.name_any())));
            }
            if left.is_empty() {
                return Ok(());
            }
            self.pause(&format!("not gone in time: {}", left.join(", "))).await?;
        }
    }

    async fn claims(&self) -> Result<Vec<PersistentVolumeClaim>> {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.kube.client(), self.namespace);
        let labelled = self.labelled();
        Ok(self.kube.call("list the database's volumes", || api.list(&labelled)).await?.items)
    }

    fn labelled(&self) -> ListParams {
        ListParams::default().labels(&format!("cnpg.io/cluster={}", self.cluster.name))
    }

    async fn pause(&self, late: &str) -> Result<()> {
        if Tries::until(self.deadline, PAUSE).another().await {
            return Ok(());
        }
        Err(timed_out(late).remedy("run the same command again: it goes on where it stopped").into())
    }
}

fn owned_by(metadata: &ObjectMeta, uid: &str) -> bool {
    metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid)
}

/// Adds or removes our finalizer; others may write the object at the same time.
async fn set_finalizer(kube: &Kube, object: &ObjectRef, wanted: bool) -> Result<()> {
    let api = kube.api(object).await?;
    let doing = format!("write the finalizers of {object}");
    let params = merge_params(FIELD_MANAGER);
    for _ in 0..ATTEMPTS {
        let Some(found) = kube.get(object).await? else { return Ok(()) };
        let mut finalizers = found.finalizers().to_vec();
        if finalizers.iter().any(|one| one == FINALIZER) == wanted {
            return Ok(());
        }
        finalizers.retain(|one| one != FINALIZER);
        if wanted {
            finalizers.push(FINALIZER.into());
        }
        let version = found.metadata.resource_version;
        let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}}));
        match kube.attempt(&doing, || api.patch(&object.name, &params, &patch)).await? {
            Ok(_) => return Ok(()),
            Err(status) if status.is_not_found() => return Ok(()),
            Err(status) if status.is_conflict() => {}
            Err(status) => return Err(api_error::status_failure(&status, &doing).into()),
        }
    }
    Err(failed(format!("cannot {doing}: others write it all the time")).remedy("run the same command again").into())
}

/// The name of what the server listed, which always has one.
trait MetaName {
    fn meta_name(&self) -> &str;
}

impl<T: kube::Resource> MetaName for T {
    fn meta_name(&self) -> &str {
        self.meta().name.as_deref().unwrap_or_default()
    }
}
