//! NetworkPolicies of others, and whether anybody is held to them.

use std::collections::BTreeMap;

use k8s_openapi::api::{apps::v1::DaemonSet, networking::v1::NetworkPolicy};
use kube::{Api, ResourceExt, api::ListParams};

use super::{Kube, prometheus::matches};
use crate::{
    error::{Result, is_forbidden},
    names::{FIELD_MANAGER, MANAGED_BY},
};

/// Networks that enforce NetworkPolicies, by the names that their own manifests give to their DaemonSets.
const ENFORCERS: [&str; 11] = [
    "anetd",
    "antrea-agent",
    "azure-npm",
    "calico-node",
    "canal",
    "cilium",
    "kube-network-policies",
    "kube-router",
    "ovnkube-node",
    "rke2-canal",
    "weave-net",
];
/// k3s enforces them by itself, without any pod, and tells that it is k3s by its version (`v1.35.4+k3s1`).
const K3S: &str = "+k3s";

impl Kube {
    /// What shows that NetworkPolicies are enforced, or counted on in a namespace, for sentences; asked for once.
    ///
    /// # Errors
    /// The cluster does not answer. Who may not look at the whole cluster is told by the namespace alone, and who may not look
    /// there either by nothing.
    pub async fn policy_enforcer(&self, namespace: &str) -> Result<Option<&str>> {
        let read = || async {
            if let Some(enforcer) = self.enforcer().await? {
                return Ok::<_, anyhow::Error>(Some(enforcer));
            }
            let theirs = match self.policies_of_others(namespace).await {
                Err(error) if is_forbidden(&error) => Vec::new(),
                theirs => theirs?,
            };
            Ok(theirs.first().map(|policy| format!("there is the NetworkPolicy {namespace}/{}", policy.name_any())))
        };
        Ok(self.policy_enforcer.get_or_try_init(read).await?.as_deref())
    }

    /// The same, as far as it is known without asking.
    pub fn known_policy_enforcer(&self) -> Option<&str> {
        self.policy_enforcer.get()?.as_deref()
    }

    async fn enforcer(&self) -> Result<Option<String>> {
        if self.version().await?.contains(K3S) {
            return Ok(Some("k3s enforces them".into()));
        }
        let (api, all) = (Api::<DaemonSet>::all(self.client()), ListParams::default());
        match self.call("list the DaemonSets", || api.list_metadata(&all)).await {
            Ok(found) => Ok(found.items.iter().find(|one| ENFORCERS.contains(&one.name_any().as_str())).map(|one| {
                format!("DaemonSet {}/{} enforces them", one.namespace().unwrap_or_default(), one.name_any())
            })),
            Err(error) if is_forbidden(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The NetworkPolicies of a namespace that stackctl has not made; none where there is no such namespace.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn policies_of_others(&self, namespace: &str) -> Result<Vec<NetworkPolicy>> {
        let (api, all) = (Api::<NetworkPolicy>::namespaced(self.client(), namespace), ListParams::default());
        let mut found = self.call("list the NetworkPolicies", || api.list(&all)).await?.items;
        found.retain(|policy| policy.labels().get(MANAGED_BY).is_none_or(|by| by != FIELD_MANAGER));
        Ok(found)
    }
}

/// What to look at where a pod with these labels cannot talk to others: the policies that select it. `None` where none does.
pub(super) fn suspected(policies: &[NetworkPolicy], labels: &BTreeMap<String, String>) -> Option<String> {
    let selects = |policy: &&NetworkPolicy| {
        let selector = policy.spec.as_ref().and_then(|spec| spec.pod_selector.clone());
        matches(&selector.unwrap_or_default(), labels)
    };
    let names: Vec<String> = policies.iter().filter(selects).map(ResourceExt::name_any).collect();
    (!names.is_empty()).then(|| {
        format!(
            "if something does not answer it, or it is not answered: of NetworkPolicies {} of somebody else's lets through \
             what policies name, and nothing else",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn policies_that_select_a_pod_are_suspected() {
        let policy = |name: &str, selector: serde_json::Value| -> NetworkPolicy {
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"podSelector": selector}})).unwrap()
        };
        let all = [policy("deny", json!({})), policy("other", json!({"matchLabels": {"app": "b"}}))];
        let labels = [("app".to_owned(), "a".to_owned())].into();
        assert!(suspected(&all, &labels).unwrap().contains("of NetworkPolicies deny of"));
        assert_eq!(suspected(&all[1..], &labels), None);
    }
}
