//! Letting go of a database without losing its volumes.
//!
//! The operator takes volumes over again when a Cluster of the same name appears and finds claims with its
//! labels that nobody owns ("orphan PVCs", `internal/controller/cluster_restore.go` in CloudNativePG 1.30).
//! The Secrets stay as well: the same password and the same certificate authority are used again.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{FIELD_MANAGER, Kube, ObjectRef};
use crate::error::{Result, timed_out};

/// Stops every instance, cleanly, and keeps the Cluster:
/// <https://cloudnative-pg.io/documentation/1.30/declarative_hibernation/>.
const HIBERNATION: &str = "cnpg.io/hibernation";

/// How often the instances are counted while they stop.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Stops the database and takes its claims and Secrets out of the Cluster's ownership, so that deleting the
/// Cluster leaves them. To be repeated after an interruption; [`wake`] takes the stop back.
///
/// # Errors
/// The API server refuses, or the instances do not stop by `deadline`.
pub async fn release_volumes(
    kube: &Kube,
    namespace: &str,
    cluster: &str,
    deadline: Instant,
    on: &(dyn Fn(&str) + Send + Sync),
) -> Result<()> {
    if !hibernate(kube, namespace, cluster, Some("on")).await? {
        return Ok(());
    }
    on("stopping the instances");
    let pods: Api<Pod> = Api::namespaced(kube.client(), namespace);
    let instances = ListParams::default().labels(&format!("cnpg.io/cluster={cluster},cnpg.io/podRole=instance"));
    loop {
        let left = kube.call("list the instances", || pods.list_metadata(&instances)).await?.items.len();
        if left == 0 {
            break;
        }
        if Instant::now() > deadline {
            return Err(timed_out(format!("{left} instances of {namespace}/{cluster} did not stop in time"))
                .remedy("stackctl logs operator says why; run the same command again, it goes on")
                .into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    on("keeping the volumes");
    let all = ListParams::default().labels(&format!("cnpg.io/cluster={cluster}"));
    disown::<PersistentVolumeClaim>(kube, namespace, cluster, &all).await?;
    disown::<Secret>(kube, namespace, cluster, &ListParams::default()).await
}

/// Lets a database that [`release_volumes`] stopped, and that was not deleted after all, run again.
///
/// # Errors
/// The API server refuses.
pub async fn wake(kube: &Kube, namespace: &str, cluster: &str) -> Result<()> {
    hibernate(kube, namespace, cluster, None).await.map(drop)
}

/// Sets or removes the annotation; false if there is no such Cluster.
async fn hibernate(kube: &Kube, namespace: &str, cluster: &str, state: Option<&str>) -> Result<bool> {
    let object = ObjectRef::namespaced("postgresql.cnpg.io/v1", "Cluster", namespace, cluster);
    if !kube.knows(&object.api_version, &object.kind).await? {
        return Ok(false);
    }
    let Some(found) = kube.get(&object).await? else { return Ok(false) };
    if found.annotations().get(HIBERNATION).map(String::as_str) != state {
        let api = kube.api(&object).await?;
        let patch = Patch::Merge(json!({"metadata": {"annotations": {HIBERNATION: state}}}));
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        kube.call(&format!("change {object}"), || api.patch(cluster, &params, &patch)).await?;
    }
    Ok(true)
}

/// Removes the Cluster from the owners of each object that it owns.
async fn disown<K>(kube: &Kube, namespace: &str, cluster: &str, which: &ListParams) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Serialize
        + Send
        + Sync,
{
    let api: Api<K> = Api::namespaced(kube.client(), namespace);
    let found = kube.call("list what the database owns", || api.list_metadata(which)).await?;
    for item in found.items {
        let owners = item.owner_references();
        let kept: Vec<_> = owners.iter().filter(|owner| owner.kind != "Cluster" || owner.name != cluster).collect();
        if kept.len() == owners.len() {
            continue;
        }
        let patch = Patch::Merge(json!({"metadata": {"ownerReferences": kept}}));
        let name = item.name_any();
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        kube.call(&format!("keep {name}"), || api.patch_metadata(&name, &params, &patch)).await?;
    }
    Ok(())
}
