//! The volume claims of a namespace, and whether they can grow.

use k8s_openapi::api::{core::v1::PersistentVolumeClaim, storage::v1::StorageClass};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch},
};
use serde_json::json;

use super::{Kube, merge_params, quantity};
use crate::{error::Result, names::FIELD_MANAGER};

/// A volume claim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeClaim {
    /// The claim's name.
    pub name: String,
    /// The Cluster whose instance it is of, if any.
    pub cluster: Option<String>,
    /// What an instance has on it: `PG_DATA` or `PG_WAL`.
    pub role: Option<String>,
    /// What it asks for, a quantity.
    pub size: String,
    /// The StorageClass of the volume.
    pub class: Option<String>,
}

impl From<PersistentVolumeClaim> for VolumeClaim {
    fn from(claim: PersistentVolumeClaim) -> VolumeClaim {
        let label = |name: &str| claim.labels().get(name).cloned();
        let (cluster, role, name) = (label("cnpg.io/cluster"), label("cnpg.io/pvcRole"), claim.name_any());
        let spec = claim.spec.unwrap_or_default();
        let asked = spec.resources.and_then(|resources| resources.requests?.remove("storage"));
        let size = asked.map(|size| size.0).unwrap_or_default();
        VolumeClaim { name, cluster, role, size, class: spec.storage_class_name }
    }
}

/// What becomes of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeChange {
    /// It becomes larger.
    Grows,
    /// It would become smaller.
    Shrinks,
    /// It has the size that is wanted.
    Stays,
}

/// What becomes of a volume of size `there`. A size that cannot be read stays: the cluster tells what is wrong with it.
pub fn size_change(there: &str, wanted: &str) -> SizeChange {
    match (quantity::parse(there), quantity::parse(wanted)) {
        (Some(there), Some(wanted)) if wanted > there => SizeChange::Grows,
        (Some(there), Some(wanted)) if wanted < there => SizeChange::Shrinks,
        _ => SizeChange::Stays,
    }
}

impl Kube {
    /// Every claim of a namespace; none where there is no such namespace.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn volume_claims(&self, namespace: &str) -> Result<Vec<VolumeClaim>> {
        let (api, all) = (Api::<PersistentVolumeClaim>::namespaced(self.client(), namespace), ListParams::default());
        let claims = self.call("list the volume claims", || api.list(&all)).await?;
        Ok(claims.items.into_iter().map(VolumeClaim::from).collect())
    }

    /// Whether volumes of this class can grow; of a class that is gone none can.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn class_lets_grow(&self, class: &str) -> Result<bool> {
        let api = Api::<StorageClass>::all(self.client());
        let found = self.call("read a storage class", || api.get_opt(class)).await?;
        Ok(found.and_then(|class| class.allow_volume_expansion).unwrap_or(false))
    }

    /// Has a claim ask for more.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn grow_claim(&self, namespace: &str, name: &str, size: &str) -> Result<()> {
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client(), namespace);
        let patch = Patch::Merge(json!({"spec": {"resources": {"requests": {"storage": size}}}}));
        let doing = format!("grow PersistentVolumeClaim {namespace}/{name}");
        let params = merge_params(FIELD_MANAGER);
        self.call(&doing, || api.patch(name, &params, &patch)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_grow_shrink_or_stay_by_their_amount_and_not_by_how_it_is_written() {
        for (there, wanted, expected) in [
            ("1Gi", "2Gi", SizeChange::Grows),
            ("1Gi", "1024Mi", SizeChange::Stays),
            ("2Gi", "1Gi", SizeChange::Shrinks),
            ("5G", "5Gi", SizeChange::Grows),
            ("", "1Gi", SizeChange::Stays),
        ] {
            assert_eq!(size_change(there, wanted), expected, "{there} to {wanted}");
        }
    }

    #[test]
    fn a_claim_tells_whose_it_is_and_what_it_asks_for() {
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": {"name": "db-1-wal", "labels": {"cnpg.io/cluster": "db", "cnpg.io/pvcRole": "PG_WAL"}},
            "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "2Gi"}}},
        }))
        .unwrap();
        let text = |text: &str| Some(text.to_owned());
        let (name, size) = ("db-1-wal".into(), "2Gi".into());
        let expected = VolumeClaim { name, cluster: text("db"), role: text("PG_WAL"), size, class: text("fast") };
        assert_eq!(VolumeClaim::from(claim), expected);
    }
}
