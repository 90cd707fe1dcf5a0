//! The CloudNativePG Cluster's own status.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{Api, api::ListParams};
use serde::Serialize;

use crate::{
    error::{Result, failed},
    kube::{Kube, cnpg::ClusterStatus},
};

/// A Cluster at a glance.
#[derive(Debug, Clone, Serialize)]
pub struct Overview {
    /// The operator's word for its state, e.g. `Cluster in healthy state`.
    pub phase: String,
    /// Instances asked for.
    pub instances: u64,
    /// Instances that are ready.
    pub ready: u64,
    /// The pod that accepts writes.
    pub primary: Option<String>,
    /// The pod that is to accept writes; differs from `primary` during a failover or switchover.
    pub target_primary: Option<String>,
    /// Every instance that the operator knows.
    pub members: Vec<Instance>,
}

/// An instance.
#[derive(Debug, Clone, Serialize)]
pub struct Instance {
    /// The name of the instance's pod.
    pub name: String,
    /// Whether it is the current primary.
    pub primary: bool,
}

impl Overview {
    /// The overview of a Cluster of the cluster.
    ///
    /// # Errors
    /// No such Cluster, or an API server that refuses.
    pub async fn read(kube: &Kube, namespace: &str, cluster: &str) -> Result<Overview> {
        let object = super::reference(namespace, cluster);
        let cluster = kube.get(&object).await?.ok_or_else(|| {
            failed(format!("there is no database: {object} does not exist")).remedy("stackctl up installs it")
        })?;
        Ok(Overview::of(&ClusterStatus::of(&cluster)))
    }

    /// The overview of a Cluster's status.
    pub fn of(status: &ClusterStatus) -> Overview {
        let primary = status.current_primary.clone();
        let members = status
            .instance_names
            .iter()
            .map(|name| Instance { name: name.clone(), primary: primary.as_ref() == Some(name) })
            .collect();
        Overview {
            phase: if status.phase.is_empty() { "unknown".into() } else { status.phase.clone() },
            instances: status.wanted as u64,
            ready: status.ready as u64,
            target_primary: status.target_primary.clone(),
            primary,
            members,
        }
    }

    /// Every instance is ready and no change of primary is under way.
    pub fn healthy(&self) -> bool {
        self.ready == self.instances && self.primary.is_some() && self.primary == self.target_primary
    }

    /// `3/3 ready, primary user-db-1`.
    pub fn describe(&self) -> String {
        let primary = self.primary.as_deref().unwrap_or("none");
        format!("{}/{} ready, primary {primary}", self.ready, self.instances)
    }
}

/// Whether there is anything of a database: its Cluster, or volumes from which its Cluster, made again, would go on.
///
/// # Errors
/// The cluster does not answer.
pub async fn is_there(kube: &Kube, namespace: &str, cluster: &str) -> Result<bool> {
    if kube.get(&super::reference(namespace, cluster)).await?.is_some() {
        return Ok(true);
    }
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(kube.client(), namespace);
    let of_database = ListParams::default().labels(&format!("cnpg.io/cluster={cluster}"));
    let found = claims.list_metadata(&of_database).await.context("cannot list the database's volumes")?;
    Ok(!found.items.is_empty())
}

/// Whether a Cluster archives its WAL; `None` before it has tried.
///
/// # Errors
/// The cluster does not answer.
pub async fn archives_wal(kube: &Kube, namespace: &str, cluster: &str) -> Result<Option<bool>> {
    let cluster = kube.get(&super::reference(namespace, cluster)).await?;
    Ok(cluster.and_then(|cluster| ClusterStatus::of(&cluster).archives_wal))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_switchover_under_way_is_not_healthy() {
        let mut data = json!({
            "spec": {"instances": 3},
            "status": {"readyInstances": 3, "currentPrimary": "user-db-1", "targetPrimary": "user-db-1",
                       "instanceNames": ["user-db-1", "user-db-2", "user-db-3"], "phase": "Cluster in healthy state"}
        });
        let overview = Overview::of(&ClusterStatus::of_data(&data));
        assert!(overview.healthy());
        assert_eq!(overview.describe(), "3/3 ready, primary user-db-1");
        assert_eq!(overview.members.iter().filter(|member| member.primary).count(), 1);
        data["status"]["targetPrimary"] = json!("user-db-2");
        assert!(!Overview::of(&ClusterStatus::of_data(&data)).healthy());
    }

    #[test]
    fn an_empty_status_is_not_healthy() {
        let overview = Overview::of(&ClusterStatus::of_data(&json!({"spec": {"instances": 3}})));
        assert!(!overview.healthy());
        assert_eq!(overview.describe(), "0/3 ready, primary none");
    }
}
