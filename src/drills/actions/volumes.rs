//! An instance on a volume whose size is enforced, for a disk that can be filled.
//!
//! The volumes of minikube's provisioner are folders on the node's disk, which is that of this machine: what
//! fills one of them fills everything. So the instance moves to a file system in the node's memory first: its
//! volume is made beforehand, for the claim that the operator makes anew under the instance's name.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::switchover::{CHANGE, cast, make_primary, node_of, poll};
use crate::{
    drills::target::{MANAGER, Stack},
    error::Result,
    tools::faults,
};

/// The volume's name.
const VOLUME: &str = "stackctl-drill-disk";
/// Where it is mounted in the node.
pub const FOLDER: &str = "/var/lib/stackctl-drill-disk";
/// Its real size: an empty database with the WAL that it keeps, and some room.
const MEBIBYTES: u32 = 640;

/// The volume, and the instance on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounded {
    /// The node, which is a container of this machine.
    pub node: String,
    /// The folder there.
    pub folder: String,
    /// The instance.
    pub instance: String,
}

impl Bounded {
    /// That of the standby which is to be moved.
    ///
    /// # Errors
    /// The API's.
    pub async fn of_a_standby(stack: &Stack) -> Result<Bounded> {
        let primary = stack.fit().await?;
        let instance = cast(stack, &primary).await?.into_iter().next().context("there is no standby")?;
        Ok(Bounded { node: node_of(stack, &instance).await?, folder: FOLDER.into(), instance })
    }

    /// Whether the instance's claim is bound to it.
    async fn in_use(&self, stack: &Stack) -> Result<bool> {
        let claim = stack.api::<PersistentVolumeClaim>().get_opt(&self.instance).await?;
        Ok(claim.and_then(|claim| claim.spec?.volume_name).as_deref() == Some(VOLUME))
    }
}

/// Moves the standby to the volume, and makes it the primary.
///
/// # Errors
/// The node's, the API's, or a step that does not end.
pub async fn make(stack: &Stack, volume: &Bounded) -> Result<()> {
    faults::mount_bounded(&volume.node, &volume.folder, MEBIBYTES).await?;
    let claims = stack.api::<PersistentVolumeClaim>();
    let claim = claims.get(&volume.instance).await.context("cannot read the volume claim of a standby")?;
    let spec = claim.spec.context("a volume claim has no content")?;
    let size = spec.resources.and_then(|resources| resources.requests?.get("storage").cloned());
    let object: PersistentVolume = serde_json::from_value(json!({
        "metadata": {"name": VOLUME},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": spec.access_modes,
            "storageClassName": spec.storage_class_name,
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": volume.folder, "type": "Directory"},
            "claimRef": {"namespace": stack.namespace, "name": volume.instance},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [volume.node]}]}]}},
        },
    }))?;
    let volumes: Api<PersistentVolume> = Api::all(stack.kube.client());
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    volumes.create(&params, &object).await.context("cannot make the volume of bounded size")?;
    replace(stack, &volume.instance).await?;
    let late = format!("{} does not come up on the volume of bounded size", volume.instance);
    poll(CHANGE, &late, async || volume.in_use(stack).await).await?;
    stack.settled().await.context(late)?;
    make_primary(stack, &volume.instance).await
}

/// Replaces the instance by one on a volume as all the others have, and removes the volume.
///
/// # Errors
/// As [`make`].
pub async fn remove(stack: &Stack, volume: &Bounded) -> Result<()> {
    if volume.in_use(stack).await? {
        let primary = stack.settled().await?;
        if primary == volume.instance {
            let standbys = cast(stack, &primary).await?;
            make_primary(stack, standbys.first().context("there is no standby")?).await?;
        }
        replace(stack, &volume.instance).await?;
    }
    poll(CHANGE, "the volume of bounded size stays in use", async || Ok(!volume.in_use(stack).await?)).await?;
    let volumes: Api<PersistentVolume> = Api::all(stack.kube.client());
    match volumes.delete(VOLUME, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        other => drop(other.context("cannot remove the volume of bounded size")?),
    }
    unmount(volume).await?;
    stack.settled().await.map(drop)
}

/// The container that used it may end a moment after its pod.
async fn unmount(volume: &Bounded) -> Result<()> {
    poll(Duration::from_secs(30), "the volume of bounded size stays in use", async || {
        Ok(faults::unmount(&volume.node, &volume.folder).await.is_ok())
    })
    .await
}

/// Takes an instance away for good: its volume with its pod.
async fn replace(stack: &Stack, instance: &str) -> Result<()> {
    let params = DeleteParams { grace_period_seconds: Some(5), ..DeleteParams::default() };
    stack
        .api::<PersistentVolumeClaim>()
        .delete(instance, &DeleteParams::default())
        .await
        .context("cannot delete a volume claim")?;
    stack.api::<Pod>().delete(instance, &params).await.with_context(|| format!("cannot delete pod {instance}"))?;
    Ok(())
}
