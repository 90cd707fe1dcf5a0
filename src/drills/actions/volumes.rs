//! Volumes: lost with their instances, or of a size that is enforced, so that a disk can be filled.
//!
//! The volumes of minikube's provisioner are folders on the node's disk, which is that of this machine: what
//! fills one of them fills everything. So the instance moves to a file system in the node's memory first: its
//! volume is made beforehand, for the claim that the operator makes anew under the instance's name.

use std::time::Duration;

use anyhow::Context as _;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    INSTANCE_CHANGE,
    loss::RecordedVolume,
    pods::{self, node_of},
    postgres::run_script,
    switchover::make_primary,
    wait_until,
};
use crate::{
    drills::{
        preconditions::{ensure_drillable, wait_until_drillable},
        target::DrillTarget,
    },
    error::{Result, failed},
    kube::post_params,
    names::DRILL_MANAGER,
    tools::faults,
};

/// The volume's name.
const VOLUME: &str = "stackctl-drill-disk";
/// Where the volume is mounted in the node.
const FOLDER: &str = "/var/lib/stackctl-drill-disk";
/// The volume's real size: an empty database with the WAL that it keeps, and some room.
const MEBIBYTES: u32 = 640;

/// Deletes an instance's volume with its pod, at once.
///
/// # Errors
/// The API's refusal.
pub async fn destroy(target: &DrillTarget, instance: &str) -> Result<()> {
    let claims = target.api::<PersistentVolumeClaim>();
    claims.delete(instance, &DeleteParams::default()).await.context("cannot delete the volume claim")?;
    destroy_wal(&claims, instance).await?;
    pods::delete(target, instance, 0).await
}

/// Deletes the claim of an instance's WAL, where it has one of its own: without its data it is of no use, and in the way of
/// the instance that is made anew.
async fn destroy_wal(claims: &Api<PersistentVolumeClaim>, instance: &str) -> Result<()> {
    match claims.delete(&wal_claim(instance), &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop).context("cannot delete the volume claim of the WAL"),
    }
}

/// The name that the operator gives to the claim of an instance's WAL.
fn wal_claim(instance: &str) -> String {
    format!("{instance}-wal")
}

/// Deletes several instances with their volumes, all at once: those that were recorded, and none that has taken the place
/// of one since.
///
/// # Errors
/// The API's refusal.
pub async fn destroy_all(target: &DrillTarget, instances: &[&str], volumes: &[RecordedVolume]) -> Result<()> {
    let (claims, pods) = (target.api::<PersistentVolumeClaim>(), target.api::<Pod>());
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    let deletions = volumes.iter().map(async |volume| claims.delete(&volume.claim, &only(&volume.uid)).await);
    try_join_all(deletions).await.context("cannot delete the claims")?;
    try_join_all(instances.iter().map(|name| pods.delete(name, &at_once))).await.context("cannot delete the pods")?;
    Ok(())
}

/// A deletion of the object with this UID, and of no other under its name.
fn only(uid: &str) -> DeleteParams {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}

/// A volume whose size is enforced, and the instance on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundedVolume {
    /// The node, which is a container of this machine.
    pub node: String,
    /// The folder in the node where the volume is mounted.
    pub folder: String,
    /// The instance whose data is on the volume.
    pub instance: String,
}

impl BoundedVolume {
    /// The volume of an instance on a node.
    pub fn new(node: &str, instance: &str) -> BoundedVolume {
        BoundedVolume { node: node.into(), folder: FOLDER.into(), instance: instance.into() }
    }

    /// The volume for the standby that is to be moved.
    ///
    /// # Errors
    /// The stack is not fit for a drill, or the API's refusal.
    pub async fn for_a_standby(target: &DrillTarget) -> Result<BoundedVolume> {
        let primary = ensure_drillable(target).await?;
        let instance = target.standbys(&primary).await?.into_iter().next().context("there is no standby")?;
        if target.api::<PersistentVolumeClaim>().get_opt(&wal_claim(&instance)).await?.is_some() {
            return Err(failed(
                "the WAL of the instances is on volumes of its own: a data volume that is full stops no WAL",
            )
            .remedy("run this scenario on a stack without sizes.wal-storage")
            .into());
        }
        Ok(BoundedVolume::new(&node_of(target, &instance).await?, &instance))
    }

    /// Moves the standby to the volume, and makes it the primary.
    ///
    /// # Errors
    /// The node's, the API's, or a step that does not end.
    pub async fn create(&self, target: &DrillTarget) -> Result<()> {
        faults::mount_bounded(&self.node, &self.folder, MEBIBYTES).await?;
        let claims = target.api::<PersistentVolumeClaim>();
        let claim = claims.get(&self.instance).await.context("cannot read the volume claim of a standby")?;
        let spec = claim.spec.context("a volume claim has no content")?;
        let size = spec.resources.and_then(|resources| resources.requests?.get("storage").cloned());
        let object: PersistentVolume = serde_json::from_value(json!({
            "metadata": {"name": VOLUME},
            "spec": {
                "capacity": {"storage": size},
                "accessModes": spec.access_modes,
                "storageClassName": spec.storage_class_name,
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": self.folder, "type": "Directory"},
                "claimRef": {"namespace": target.namespace, "name": self.instance},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [self.node]}]}]}},
            },
        }))?;
        let volumes: Api<PersistentVolume> = Api::all(target.kube.client());
        volumes.create(&post_params(DRILL_MANAGER), &object).await.context("cannot make the volume of bounded size")?;
        let uid = claim.metadata.uid.context("a volume claim has no UID")?;
        self.replace_instance(target, &uid).await?;
        let late = format!("{} does not come up on the volume of bounded size", self.instance);
        wait_until(INSTANCE_CHANGE, &late, || async { self.is_in_use(target).await }).await?;
        wait_until_drillable(target).await.context(late)?;
        make_primary(target, &self.instance).await
    }

    /// Fills the volume to the last byte, once the instance is known to be on it. `on_fill` is called right before.
    ///
    /// # Errors
    /// The node's; the instance is on another volume.
    pub async fn fill(&self, target: &DrillTarget, on_fill: impl FnOnce()) -> Result<()> {
        let mounted = run_script(target, &self.instance, "df -P \"$PGDATA\" | tail -n 1").await?;
        if !mounted.starts_with(faults::BOUNDED) {
            let why = format!("{} is not on the volume of bounded size: {}", self.instance, mounted.trim());
            return Err(failed(why).into());
        }
        on_fill();
        faults::fill(&self.node, &self.folder).await
    }

    /// Removes what the volume was filled with. No API server is asked.
    ///
    /// # Errors
    /// The node's.
    pub async fn make_room(&self) -> Result<()> {
        faults::make_room(&self.node, &self.folder).await
    }

    /// Replaces the instance by one on a volume as all the others have, and removes the volume.
    ///
    /// # Errors
    /// As [`BoundedVolume::create`].
    pub async fn remove(&self, target: &DrillTarget) -> Result<()> {
        // Which claim is on the volume is known by its UID from here on: one that takes its place is not touched.
        if let Some(uid) = self.claim_in_use(target).await? {
            let primary = wait_until_drillable(target).await?;
            if primary == self.instance {
                let standbys = target.standbys(&primary).await?;
                make_primary(target, standbys.first().context("there is no standby")?).await?;
            }
            self.replace_instance(target, &uid).await?;
        }
        let late = "the volume of bounded size stays in use";
        wait_until(INSTANCE_CHANGE, late, || async { Ok(!self.is_in_use(target).await?) }).await?;
        let volumes: Api<PersistentVolume> = Api::all(target.kube.client());
        match volumes.delete(VOLUME, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other.context("cannot remove the volume of bounded size")?),
        }
        // The container that used it may end a moment after its pod.
        wait_until(Duration::from_secs(30), late, || async {
            Ok(faults::unmount(&self.node, &self.folder).await.is_ok())
        })
        .await?;
        wait_until_drillable(target).await.map(drop)
    }

    /// Tells whether the instance's claim is bound to the volume.
    async fn is_in_use(&self, target: &DrillTarget) -> Result<bool> {
        Ok(self.claim_in_use(target).await?.is_some())
    }

    /// Reads the UID of the instance's claim, if it is bound to the volume.
    async fn claim_in_use(&self, target: &DrillTarget) -> Result<Option<String>> {
        let claim = target.api::<PersistentVolumeClaim>().get_opt(&self.instance).await?;
        let bound =
            claim.filter(|claim| claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()) == Some(VOLUME));
        Ok(bound.and_then(|claim| claim.metadata.uid))
    }

    /// Takes the instance away for good, its volume with its pod: the operator makes it anew.
    async fn replace_instance(&self, target: &DrillTarget, claim: &str) -> Result<()> {
        let claims = target.api::<PersistentVolumeClaim>();
        claims.delete(&self.instance, &only(claim)).await.context("cannot delete a volume claim")?;
        pods::delete(target, &self.instance, 5).await
    }
}
