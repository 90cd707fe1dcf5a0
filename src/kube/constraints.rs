//! What a cluster's owner has laid down, asked for once in a command: rules for containers, and the zones of nodes.

use k8s_openapi::api::core::v1::{LimitRange, Node, ResourceQuota};
use kube::{Api, api::ListParams};
use serde::{Serialize, de::DeserializeOwned};

use super::{Kube, rules::ContainerRules, zones::Zones};
use crate::error::Result;

impl Kube {
    /// Completes the `spec` of a pod that is started by hand by what its namespace wants. Where that cannot be told, the
    /// server tells what it refuses.
    ///
    /// # Errors
    /// Only if it cannot be written as JSON.
    pub async fn fit_pod<T: Serialize + DeserializeOwned>(&self, namespace: &str, spec: T) -> Result<T> {
        let rules = self.container_rules(namespace).await.unwrap_or_default();
        if rules.is_empty() {
            return Ok(spec);
        }
        let mut value = serde_json::to_value(spec)?;
        rules.fit_pod(&mut value);
        Ok(serde_json::from_value(value)?)
    }

    /// What a namespace wants of the containers in it, asked for once; nothing where there is no such namespace.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn container_rules(&self, namespace: &str) -> Result<ContainerRules> {
        let mut known = self.rules.lock().await;
        if let Some(rules) = known.get(namespace) {
            return Ok(rules.clone());
        }
        let rules = self.read_rules(namespace).await?;
        known.insert(namespace.to_owned(), rules.clone());
        Ok(rules)
    }

    async fn read_rules(&self, namespace: &str) -> Result<ContainerRules> {
        let all = ListParams::default();
        let quotas = Api::<ResourceQuota>::namespaced(self.client(), namespace);
        let ranges = Api::<LimitRange>::namespaced(self.client(), namespace);
        let (quotas, ranges) = futures::try_join!(
            self.call("list the ResourceQuotas", || quotas.list(&all)),
            self.call("list the LimitRanges", || ranges.list(&all)),
        )?;
        Ok(ContainerRules::of(&quotas.items, &ranges.items))
    }

    /// The zones of the nodes, asked for once.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn zones(&self) -> Result<&Zones> {
        let read = || async {
            let (api, all) = (Api::<Node>::all(self.client()), ListParams::default());
            let nodes = self.call("list the nodes", || api.list(&all)).await?;
            Ok(Zones::of(&nodes.items))
        };
        self.zones.get_or_try_init(read).await
    }
}
