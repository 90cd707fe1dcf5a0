//! The instances of Prometheus that an operator runs in a cluster, and what each picks up.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::LabelSelector};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
    core::{Selector, SelectorExt},
};
use serde::Deserialize;

use super::{Kube, ObjectRef};
use crate::error::Result;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A Prometheus of the Prometheus operator's.
#[derive(Debug, Clone)]
pub struct PrometheusInstance {
    /// The namespace that it is in.
    pub namespace: String,
    /// The name of the object.
    pub name: String,
    /// The PodMonitors that it picks up.
    pub monitors: Selection,
    /// The PrometheusRules that it picks up.
    pub rules: Selection,
}

/// The objects of a kind that a Prometheus picks up.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The objects; without a selector it picks up none.
    pub objects: Option<LabelSelector>,
    /// The namespaces; without a selector its own alone.
    pub namespaces: Option<LabelSelector>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawSpec {
    pod_monitor_selector: Option<LabelSelector>,
    pod_monitor_namespace_selector: Option<LabelSelector>,
    rule_selector: Option<LabelSelector>,
    rule_namespace_selector: Option<LabelSelector>,
}

impl PrometheusInstance {
    /// The instance that an object of the operator's kind describes.
    fn of(object: &DynamicObject) -> Self {
        let spec: RawSpec = serde_json::from_value(object.data["spec"].clone()).unwrap_or_default();
        PrometheusInstance {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            monitors: Selection { objects: spec.pod_monitor_selector, namespaces: spec.pod_monitor_namespace_selector },
            rules: Selection { objects: spec.rule_selector, namespaces: spec.rule_namespace_selector },
        }
    }
}

impl Selection {
    /// Whether it looks into a namespace with these labels at all; `own` is that of the Prometheus.
    pub fn looks_into(&self, own: &str, namespace: &str, labels: &Labels) -> bool {
        self.namespaces.as_ref().map_or(own == namespace, |selector| matches(selector, labels))
    }

    /// The labels that an object which has `labels` must get to be picked up: none if it is as it is. `None` where no label
    /// would do: nothing is selected, or what the object has already is in the way.
    pub fn lacks(&self, labels: &Labels) -> Option<Labels> {
        let selector = self.objects.as_ref()?;
        let mut all = labels.clone();
        for (key, value) in selector.match_labels.iter().flatten() {
            all.entry(key.clone()).or_insert_with(|| value.clone());
        }
        for one in selector.match_expressions.iter().flatten() {
            let first = one.values.iter().flatten().next().cloned();
            match one.operator.as_str() {
                "In" => all.entry(one.key.clone()).or_insert_with(|| first.unwrap_or_default()),
                "Exists" => all.entry(one.key.clone()).or_insert_with(|| "true".into()),
                _ => continue,
            };
        }
        if !matches(selector, &all) {
            return None;
        }
        all.retain(|key, _| !labels.contains_key(key));
        Some(all)
    }
}

/// Whether a selector selects these labels. One that cannot be read selects nothing.
pub fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

impl Kube {
    /// Every Prometheus of an operator's; none where there is no operator.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn prometheuses(&self) -> Result<Vec<PrometheusInstance>> {
        let kind = GroupVersionKind::gvk("monitoring.coreos.com", "v1", "Prometheus");
        if !self.knows("monitoring.coreos.com/v1", "Prometheus").await? {
            return Ok(Vec::new());
        }
        let api =
            Api::<DynamicObject>::all_with(self.client(), &ApiResource::from_gvk_with_plural(&kind, "prometheuses"));
        let all = ListParams::default();
        let found = self.call("list the instances of Prometheus", || api.list(&all)).await?;
        Ok(found.items.iter().map(PrometheusInstance::of).collect())
    }

    /// The labels of a namespace; none where it is not there yet.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn namespace_labels(&self, name: &str) -> Result<Labels> {
        let found = self.get(&ObjectRef::cluster("v1", "Namespace", name)).await?;
        let found = found.and_then(|found| found.try_parse::<Namespace>().ok());
        let mut labels = found.and_then(|found| found.metadata.labels).unwrap_or_default();
        // The API server gives every namespace this one.
        labels.entry("kubernetes.io/metadata.name".into()).or_insert_with(|| name.into());
        Ok(labels)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn instance(spec: &Value) -> PrometheusInstance {
        let object = json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus",
            "metadata": {"namespace": "watch", "name": "main"}, "spec": spec});
        PrometheusInstance::of(&serde_json::from_value(object).unwrap())
    }

    fn labels(of: &[(&str, &str)]) -> Labels {
        of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_object_gets_the_labels_that_it_is_picked_up_by() {
        let has = labels(&[("team", "data")]);
        for (selector, lacks) in [
            (json!({}), Some(labels(&[]))),
            (json!({"matchLabels": {"release": "main"}}), Some(labels(&[("release", "main")]))),
            (json!({"matchLabels": {"team": "data"}}), Some(labels(&[]))),
            (json!({"matchLabels": {"team": "web"}}), None),
            (
                json!({"matchExpressions": [{"key": "release", "operator": "In", "values": ["a", "b"]},
                    {"key": "scrape", "operator": "Exists"}, {"key": "mute", "operator": "DoesNotExist"}]}),
                Some(labels(&[("release", "a"), ("scrape", "true")])),
            ),
            (json!({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["data"]}]}), None),
            (json!({"matchExpressions": [{"key": "team", "operator": "Near", "values": ["data"]}]}), None),
        ] {
            let instance = instance(&json!({"podMonitorSelector": selector, "ruleSelector": null}));
            assert_eq!(instance.monitors.lacks(&has), lacks, "{selector}");
            assert_eq!(instance.rules.lacks(&has), None, "without a selector nothing is picked up");
        }
    }

    #[test]
    fn without_a_selector_it_looks_into_its_own_namespace_alone() {
        let own = instance(&json!({"podMonitorSelector": {}}));
        assert!(own.monitors.looks_into("watch", "watch", &labels(&[])));
        assert!(!own.monitors.looks_into("watch", "user-app", &labels(&[])));
        let all =
            instance(&json!({"podMonitorNamespaceSelector": {}, "ruleNamespaceSelector": {"matchLabels": {"a": "b"}}}));
        assert!(all.monitors.looks_into("watch", "user-app", &labels(&[])));
        assert!(!all.rules.looks_into("watch", "user-app", &labels(&[])));
        assert!(all.rules.looks_into("watch", "user-app", &labels(&[("a", "b")])));
        assert_eq!(instance(&json!("?")).monitors.lacks(&labels(&[])), None, "what cannot be read picks up nothing");
    }
}
