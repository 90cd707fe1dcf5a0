//! The status of CloudNativePG's `Cluster`, typed.

use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde::Deserialize;
use serde_json::Value;

use super::{Kube, ObjectRef};

/// The group and version of CloudNativePG's kinds.
pub const API_VERSION: &str = "postgresql.cnpg.io/v1";
/// The operator's word for a Cluster that is as it should be.
pub const HEALTHY: &str = "Cluster in healthy state";
/// The operator's word in the place of a target primary while it waits to choose one.
const UNDECIDED: &str = "pending";

/// Phases that the operator does not leave by itself.
const STUCK: [&str; 6] = [
    "Cluster is unrecoverable and needs manual intervention",
    "Cluster cannot proceed to reconciliation due to an unknown plugin being required",
    "Cluster has incomplete or invalid image catalog",
    "Cluster cannot execute instance online upgrade due to missing architecture binary",
    "Invalid cluster definition",
    "Waiting for user action",
];

/// What the operator says of a Cluster, with what its spec asks for. A field that is not there yet is empty or zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The operator's word for its state, e.g. [`HEALTHY`].
    pub phase: String,
    /// Why it is in this phase.
    pub phase_reason: String,
    /// The instance that accepts writes; `None` before there is one.
    pub current_primary: Option<String>,
    /// The instance that is to accept writes; differs from the current one during a failover or switchover.
    pub target_primary: Option<String>,
    /// Instances that the spec asks for.
    pub wanted: usize,
    /// Instances that there are.
    pub present: usize,
    /// Instances that are ready.
    pub ready: usize,
    /// The names of all instances.
    pub instance_names: Vec<String>,
    /// The image of PostgreSQL that the instances run.
    pub image: String,
    /// Whether WAL archiving works; `None` before it was tried.
    pub archives_wal: Option<bool>,
    /// PostgreSQL's identifier of the database, which no other has; empty before it is made.
    pub system_id: String,
    /// The major version of the database's files; `None` before they are made.
    pub major: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawStatus {
    phase: Option<String>,
    phase_reason: Option<String>,
    current_primary: Option<String>,
    target_primary: Option<String>,
    instances: Option<usize>,
    ready_instances: Option<usize>,
    instance_names: Option<Vec<String>>,
    image: Option<String>,
    conditions: Option<Vec<ClusterCondition>>,
    #[serde(rename = "systemID")]
    system_id: Option<String>,
    pg_data_image_info: Option<ImageInfo>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageInfo {
    major_version: u64,
}

#[derive(Deserialize)]
struct ClusterCondition {
    r#type: String,
    status: String,
}

impl ClusterStatus {
    /// The status of a Cluster; a part of it that cannot be read counts as not there.
    pub fn of(cluster: &DynamicObject) -> Self {
        Self::of_data(&cluster.data)
    }

    /// The status from a Cluster's spec and status.
    pub fn of_data(data: &Value) -> Self {
        let status = data.get("status").cloned().unwrap_or_default();
        let status: RawStatus = serde_json::from_value(status).unwrap_or_default();
        let named = |name: Option<String>| name.filter(|name| !name.is_empty());
        let archiving = status.conditions.iter().flatten().find(|one| one.r#type == "ContinuousArchiving");
        let wanted = data.pointer("/spec/instances").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        ClusterStatus {
            phase: status.phase.unwrap_or_default(),
            phase_reason: status.phase_reason.unwrap_or_default(),
            current_primary: named(status.current_primary),
            target_primary: named(status.target_primary),
            // The API's default.
            wanted: wanted.unwrap_or(1),
            present: status.instances.unwrap_or(0),
            ready: status.ready_instances.unwrap_or(0),
            instance_names: status.instance_names.unwrap_or_default(),
            image: status.image.unwrap_or_default(),
            archives_wal: archiving.map(|one| one.status == "True"),
            system_id: status.system_id.unwrap_or_default(),
            major: status.pg_data_image_info.map(|info| info.major_version),
        }
    }

    /// The primary, if it is the one that was chosen: no failover or switchover is under way.
    pub fn settled_primary(&self) -> Option<&str> {
        self.current_primary.as_deref().filter(|_| self.current_primary == self.target_primary)
    }

    /// The instance that was chosen to take over from `primary`, which has not done so yet.
    pub fn successor_of(&self, primary: &str) -> Option<&str> {
        self.target_primary.as_deref().filter(|target| *target != primary && *target != UNDECIDED)
    }

    /// Whether all instances are ready, the primary is the one that was chosen, and the operator calls it healthy.
    pub fn is_healthy(&self) -> bool {
        self.phase == HEALTHY && self.ready == self.wanted && self.settled_primary().is_some()
    }

    /// Whether the operator does not leave the phase by itself.
    pub fn is_stuck(&self) -> bool {
        STUCK.contains(&self.phase.as_str())
    }
}

/// Names a Cluster.
pub fn reference(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef::namespaced(API_VERSION, "Cluster", namespace, name)
}

/// The API of the Clusters of a namespace, for patches of a spec or status.
pub fn clusters(kube: &Kube, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("postgresql.cnpg.io", "v1", "Cluster");
    Api::namespaced_with(kube.client(), namespace, &ApiResource::from_gvk(&kind))
}

/// The label selector of the pods of a Cluster's instances.
pub fn instances(cluster: &str) -> String {
    format!("cnpg.io/cluster={cluster},cnpg.io/podRole=instance")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fresh_cluster_has_nothing_yet() {
        let status = ClusterStatus::of_data(&json!({"spec": {"instances": 3}}));
        assert_eq!(status, ClusterStatus { wanted: 3, ..ClusterStatus::default() });
        assert!(!status.is_healthy() && !status.is_stuck() && status.settled_primary().is_none());
    }

    #[test]
    fn a_switchover_under_way_has_no_settled_primary() {
        let mut data = json!({"spec": {"instances": 2}, "status": {
            "phase": HEALTHY, "instances": 2, "readyInstances": 2, "instanceNames": ["db-1", "db-2"],
            "currentPrimary": "db-1", "targetPrimary": "db-1",
            "conditions": [{"type": "ContinuousArchiving", "status": "False"}],
        }});
        let status = ClusterStatus::of_data(&data);
        assert!(status.is_healthy());
        assert_eq!((status.instance_names.len(), status.archives_wal), (2, Some(false)));
        data["status"]["targetPrimary"] = json!("db-2");
        let status = ClusterStatus::of_data(&data);
        assert!(!status.is_healthy() && status.settled_primary().is_none());
        assert_eq!((status.successor_of("db-1"), status.successor_of("db-2")), (Some("db-2"), None));
        data["status"]["targetPrimary"] = json!("pending");
        assert_eq!(ClusterStatus::of_data(&data).successor_of("db-1"), None, "nobody is chosen yet");
    }
}
