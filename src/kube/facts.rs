//! Questions about a cluster that checks and phases ask: one request or a few, nothing is changed.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    admissionregistration::v1::{
        MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhookConfiguration, WebhookClientConfig,
    },
    core::v1::Node,
    discovery::v1::EndpointSlice,
    networking::v1::IngressClass,
    storage::v1::StorageClass,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
};
use serde_json::Value;

use super::{ClusterRef, Kube, ObjectRef, kubeconfig};
use crate::error::{self, Kind, Result};

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
const DEFAULT_INGRESS_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";

/// An admission webhook that nobody answers for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadWebhook {
    /// The name of its configuration.
    pub configuration: String,
    /// The Service that it calls, `namespace/name`.
    pub service: String,
    /// Whether it watches a kind and a namespace that are to be written, so that it is in the way.
    pub concerns_us: bool,
}

/// What validating and mutating webhooks have in common.
struct Hook<'a> {
    policy: Option<&'a str>,
    client: &'a WebhookClientConfig,
    rules: &'a [RuleWithOperations],
    selector: Option<&'a LabelSelector>,
}

impl Hook<'_> {
    fn concerns(&self, groups: &[&str], namespaces: &[&str]) -> bool {
        let watches = |group: &String| group == "*" || groups.contains(&group.as_str());
        // What is not told apart here (single resources, labels of objects) counts as watched.
        self.rules.iter().any(|rule| rule.api_groups.iter().flatten().any(watches))
            && self.selector.is_none_or(|selector| namespaces.iter().any(|namespace| may_select(selector, namespace)))
    }
}

/// Whether a selector may choose a namespace, as far as the label that every namespace has tells it.
fn may_select(selector: &LabelSelector, namespace: &str) -> bool {
    const NAME: &str = "kubernetes.io/metadata.name";
    let labels = selector.match_labels.iter().flatten();
    let by_labels = labels.filter(|(key, _)| *key == NAME).all(|(_, value)| value == namespace);
    let expressions = selector.match_expressions.iter().flatten().filter(|one| one.key == NAME);
    by_labels
        && expressions.into_iter().all(|one| {
            let listed = one.values.iter().flatten().any(|value| value == namespace);
            match one.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "DoesNotExist" => false,
                _ => true,
            }
        })
}

impl Kube {
    /// The StorageClass that claims get which name none.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn default_storage_class(&self) -> Result<Option<String>> {
        let (api, all) = (Api::<StorageClass>::all(self.client()), ListParams::default());
        let classes = self.call("list the storage classes", || api.list(&all)).await?;
        let is_default = |class: &StorageClass| class.annotations().get(DEFAULT_CLASS).is_some_and(|is| is == "true");
        Ok(classes.items.iter().find(|class| is_default(class)).map(ResourceExt::name_any))
    }

    /// The IngressClasses by name, each with whether it is a default.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn ingress_classes(&self) -> Result<Vec<(String, bool)>> {
        let (api, all) = (Api::<IngressClass>::all(self.client()), ListParams::default());
        let classes = self.call("list the classes of Ingresses", || api.list(&all)).await?;
        let is_default =
            |class: &IngressClass| class.annotations().get(DEFAULT_INGRESS_CLASS).is_some_and(|is| is == "true");
        Ok(classes.items.iter().map(|class| (class.name_any(), is_default(class))).collect())
    }

    /// The ports that the API server listens on, by its own endpoints.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn api_server_ports(&self) -> Result<BTreeSet<u16>> {
        let api = Api::<EndpointSlice>::namespaced(self.client(), "default");
        let params = ListParams::default().labels("kubernetes.io/service-name=kubernetes");
        let slices = self.call("read the API server's endpoints", || api.list(&params)).await?;
        let ports = slices.items.into_iter().flat_map(|slice| slice.ports.unwrap_or_default());
        Ok(ports.filter_map(|port| u16::try_from(port.port?).ok()).collect())
    }

    /// Every node's name, and whether it is ready.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn nodes(&self) -> Result<Vec<(String, bool)>> {
        let (api, all) = (Api::<Node>::all(self.client()), ListParams::default());
        let nodes = self.call("list the nodes", || api.list(&all)).await?;
        let ready = |node: &Node| {
            let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
        };
        Ok(nodes.items.iter().map(|node| (node.name_any(), ready(node))).collect())
    }

    /// Every node's name, and its provider's id, which says who has made it: `kind://docker/dev/dev-worker`; empty where
    /// nobody says.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn node_providers(&self) -> Result<Vec<(String, String)>> {
        let (api, all) = (Api::<Node>::all(self.client()), ListParams::default());
        let nodes = self.call("list the nodes", || api.list(&all)).await?;
        let provider = |node: &Node| node.spec.as_ref().and_then(|spec| spec.provider_id.clone()).unwrap_or_default();
        Ok(nodes.items.iter().map(|node| (node.name_any(), provider(node))).collect())
    }

    /// The configuration that the node's kubelet works with, as it tells it: `{"kubeletconfig": {…}}`. Asked once.
    ///
    /// # Errors
    /// The kubelet does not answer, or the API refuses.
    pub async fn kubelet_configuration(&self, node: &str) -> Result<Value> {
        let client = self.client();
        let read = async {
            let path = format!("/api/v1/nodes/{node}/proxy/configz");
            let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
            client.request(request).await
        };
        self.bounded(&format!("read the configuration of {node}'s kubelet"), read).await
    }

    /// Whether the aggregated API `name` (e.g. `v1beta1.metrics.k8s.io`) answers; `None`: it is not there.
    /// The text is the API server's reason.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn api_service(&self, name: &str) -> Result<Option<(bool, String)>> {
        let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}");
        let client = self.client();
        let read = || async {
            let request = http::Request::get(&path).body(Vec::new()).map_err(kube::Error::HttpError)?;
            match client.request::<Value>(request).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
                answer => answer.map(Some),
            }
        };
        let Some(service) = self.call(&format!("read the APIService {name}"), read).await? else { return Ok(None) };
        let conditions = service["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let available = conditions.iter().find(|condition| condition["type"] == "Available");
        Ok(Some(available.map_or((false, "not checked yet".into()), |condition| {
            (condition["status"] == "True", condition["message"].as_str().unwrap_or_default().to_owned())
        })))
    }

    /// Admission webhooks that refuse everything when nobody answers, whose Service has no ready endpoint. `groups` are
    /// those of the kinds that are to be written, in `namespaces`.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn dead_webhooks(&self, groups: &[&str], namespaces: &[&str]) -> Result<Vec<DeadWebhook>> {
        let all = ListParams::default();
        let validating = Api::<ValidatingWebhookConfiguration>::all(self.client());
        let mutating = Api::<MutatingWebhookConfiguration>::all(self.client());
        let (validating, mutating) = tokio::try_join!(
            self.call("list the validating webhooks", || validating.list(&all)),
            self.call("list the mutating webhooks", || mutating.list(&all)),
        )?;
        let mut watched: BTreeMap<(String, String, String), bool> = BTreeMap::new();
        let mut add = |configuration: String, hook: Hook<'_>| {
            if let (Some(service), true) = (&hook.client.service, hook.policy != Some("Ignore")) {
                let concerns_us = hook.concerns(groups, namespaces);
                *watched.entry((configuration, service.namespace.clone(), service.name.clone())).or_default() |=
                    concerns_us;
            }
        };
        for configuration in &validating.items {
            for webhook in configuration.webhooks.iter().flatten() {
                let (policy, selector) = (webhook.failure_policy.as_deref(), webhook.namespace_selector.as_ref());
                let rules = webhook.rules.as_deref().unwrap_or_default();
                add(configuration.name_any(), Hook { policy, client: &webhook.client_config, rules, selector });
            }
        }
        for configuration in &mutating.items {
            for webhook in configuration.webhooks.iter().flatten() {
                let (policy, selector) = (webhook.failure_policy.as_deref(), webhook.namespace_selector.as_ref());
                let rules = webhook.rules.as_deref().unwrap_or_default();
                add(configuration.name_any(), Hook { policy, client: &webhook.client_config, rules, selector });
            }
        }
        let mut dead = Vec::new();
        for ((configuration, namespace, service), concerns_us) in watched {
            if !self.has_endpoint(&namespace, &service).await? {
                dead.push(DeadWebhook { configuration, service: format!("{namespace}/{service}"), concerns_us });
            }
        }
        Ok(dead)
    }

    async fn has_endpoint(&self, namespace: &str, service: &str) -> Result<bool> {
        let api = Api::<EndpointSlice>::namespaced(self.client(), namespace);
        let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let slices = self.call("list the endpoints of a webhook", || api.list(&of_service)).await?;
        let mut endpoints = slices.items.iter().flat_map(|slice| &slice.endpoints);
        Ok(endpoints
            .any(|endpoint| endpoint.conditions.as_ref().is_none_or(|conditions| conditions.ready.unwrap_or(true))))
    }
}

/// The databases that CloudNativePG's operator runs, in words, e.g. `Cluster shop/orders`; `None` when there are
/// none. To be asked once the stack's own is gone: whatever is left is somebody else's, or another stack's.
///
/// # Errors
/// The API's refusal.
pub async fn operator_in_use(kube: &Kube) -> Result<Option<String>> {
    let any = ObjectRef::cluster("postgresql.cnpg.io/v1", "Cluster", "");
    if !kube.knows(&any.api_version, &any.kind).await? {
        return Ok(None);
    }
    let resolved = kube.resolve(&any).await?;
    let (api, all) = (Api::<DynamicObject>::all_with(kube.client(), &resolved.resource), ListParams::default());
    let found = kube.call("list the databases of CloudNativePG", || api.list_metadata(&all)).await?;
    let names: Vec<String> = found
        .items
        .iter()
        .map(|cluster| format!("Cluster {}/{}", cluster.namespace().unwrap_or_default(), cluster.name_any()))
        .collect();
    Ok((!names.is_empty()).then(|| names.join(", ")))
}

/// The kubeconfig's contexts, and the current one. No kubeconfig at all is one without contexts.
///
/// # Errors
/// A file that is there and can't be read.
pub fn contexts(cluster: &ClusterRef) -> Result<(Vec<String>, Option<String>)> {
    let config = match kubeconfig::read(cluster) {
        Ok(config) => config,
        // None at all is one without contexts.
        Err(error) if error::kind_of(&error) == Kind::Missing => return Ok((Vec::new(), None)),
        Err(error) => return Err(error),
    };
    let names = config.contexts.into_iter().map(|context| context.name).collect();
    Ok((names, config.current_context.filter(|name| !name.is_empty())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn concerns(rules: Value, selector: Option<Value>) -> bool {
        let rules: Vec<RuleWithOperations> = serde_json::from_value(rules).unwrap();
        let selector: Option<LabelSelector> = selector.map(|one| serde_json::from_value(one).unwrap());
        let client = WebhookClientConfig::default();
        let hook = Hook { policy: None, client: &client, rules: &rules, selector: selector.as_ref() };
        hook.concerns(&["", "apps"], &["user-app", "cnpg-system"])
    }

    #[test]
    fn a_webhook_is_in_the_way_when_it_watches_a_kind_and_a_namespace_of_ours() {
        let rule = |group: &str| json!([{"apiGroups": [group], "apiVersions": ["*"], "resources": ["*"]}]);
        assert!(concerns(rule("apps"), None) && concerns(rule("*"), None) && concerns(rule(""), None));
        assert!(!concerns(rule("widgets.example.com"), None) && !concerns(json!([]), None));
        let name = "kubernetes.io/metadata.name";
        let only = |operator: &str, of: &str| {
            Some(json!({"matchExpressions": [{"key": name, "operator": operator, "values": [of]}]}))
        };
        assert!(!concerns(rule("apps"), only("In", "shop")) && concerns(rule("apps"), only("In", "user-app")));
        assert!(concerns(rule("apps"), only("NotIn", "user-app")), "the operator's namespace is left");
        assert!(!concerns(rule("apps"), Some(json!({"matchLabels": {name: "shop"}}))));
        assert!(concerns(rule("apps"), Some(json!({"matchLabels": {"team": "a"}}))), "not known: it may");
    }
}
