//! What a drill that did not come to its end has left in the cluster, and instances that are fenced.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use serde_json::Value;

use crate::{
    context::LOCK,
    database::reference,
    error::Result,
    kube::{Kube, Lock},
    names::{DRILL_RECORD, DRILL_RECORD_KEY, FENCING},
};

/// What is left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// The run whose record is there, though nobody holds the stack's lock.
    pub drill: Option<String>,
    /// The instances that are fenced, as the annotation names them.
    pub fenced: Option<String>,
}

impl Leftovers {
    /// Reads what is left.
    ///
    /// # Errors
    /// The API server refuses or does not answer.
    pub async fn read(kube: &Kube, namespace: &str, cluster: &str) -> Result<Leftovers> {
        let maps: Api<ConfigMap> = Api::namespaced(kube.client(), namespace);
        let cluster = reference(namespace, cluster);
        let (map, cluster) = tokio::join!(maps.get_opt(DRILL_RECORD), kube.get(&cluster));
        let mut drill = map?.map(|map| run_of(&map));
        if drill.is_some() && Lock::is_held(kube, namespace, LOCK).await? {
            drill = None;
        }
        let fenced = cluster?.and_then(|cluster| cluster.metadata.annotations?.remove(FENCING));
        Ok(Leftovers { drill, fenced: fenced.filter(|fenced| !matches!(fenced.as_str(), "" | "[]")) })
    }

    /// Says what is left and what undoes it; `None` where nothing is.
    pub fn describe(&self) -> Option<String> {
        let drill = self.drill.as_ref().map(|run| {
            format!(
                "the drill {run} was interrupted and is not undone: stackctl up (or the next failover-drill) undoes it"
            )
        });
        let fenced = self.fenced.as_ref().map(|names| format!("PostgreSQL is stopped on purpose (fenced) on {names}"));
        let told: Vec<String> = drill.into_iter().chain(fenced).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}

fn run_of(map: &ConfigMap) -> String {
    let text = map.data.as_ref().and_then(|data| data.get(DRILL_RECORD_KEY));
    let record: Option<Value> = text.and_then(|text| serde_json::from_str(text).ok());
    let run = record.as_ref().and_then(|record| record["run"].as_str());
    run.unwrap_or("whose record cannot be read").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_and_fenced_instances_are_told() {
        assert_eq!(Leftovers::default().describe(), None);
        let data = include_str!("../tests/compat/8b80009/drill-record.json").to_owned();
        let map = ConfigMap { data: Some([(DRILL_RECORD_KEY.to_owned(), data)].into()), ..ConfigMap::default() };
        let left = Leftovers { drill: Some(run_of(&map)), fenced: Some("[\"user-db-2\"]".into()) };
        let told = left.describe().unwrap();
        assert!(told.contains("the drill 20261128-061500-control was interrupted"), "{told}");
        assert!(told.contains("fenced) on [\"user-db-2\"]"), "{told}");
    }
}
