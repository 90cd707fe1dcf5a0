//! From the plain manifests to what is applied: images, namespace, labels and the user's settings.
//!
//! The manifests are valid YAML without placeholders in a language of our own; what differs between
//! installations is set here, by name.

use std::collections::HashMap;

use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{monitoring, priority, pull_secret, sizes};
use crate::{
    assets::{Components, Part, WRITTEN_FOR, kind},
    config::Stack,
    names::{FIELD_MANAGER, MANAGED_BY},
};

/// The images by the names that manifests use.
#[derive(Debug, Clone, Default)]
pub struct Images {
    by_name: HashMap<String, String>,
}

impl Images {
    /// The pinned images; `replaced` (a bundle's) win over them by the component's name. The names that
    /// upstream's own manifests use are mapped as well.
    pub fn new(pinned: &Components, replaced: impl Fn(&str) -> Option<String>, web: String) -> Images {
        let mut by_name = HashMap::new();
        for component in &pinned.components {
            let (Some(image), Some(pinned)) = (&component.image, component.pinned_image()) else { continue };
            let used = replaced(&component.name).unwrap_or(pinned);
            by_name.insert(image.clone(), used.clone());
            by_name.insert(component.name.clone(), used);
        }
        by_name.insert("user-app".into(), web);
        Images { by_name }
    }

    /// The same with another image of that name in our manifests.
    #[must_use]
    pub fn with(mut self, name: &str, image: String) -> Images {
        self.by_name.insert(name.into(), image);
        self
    }

    /// The image that stands for `name`, if it is one of ours.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(String::as_str)
    }
}

/// The objects of `part` with the user's settings, ready to apply.
pub fn render(part: Part, objects: Vec<DynamicObject>, stack: &Stack, images: &Images) -> Vec<DynamicObject> {
    let mut objects: Vec<DynamicObject> = objects
        .into_iter()
        .map(|mut object| {
            set_namespace(&mut object, &stack.namespace);
            set_labels(&mut object, part);
            set_images(&mut object.data, images);
            pull_secret::set(&mut object, stack);
            match kind(&object) {
                "Cluster" => set_database(&mut object.data, stack),
                "Deployment" if part == Part::Operator => tune_operator(&mut object.data),
                _ => {}
            }
            object
        })
        .collect();
    sizes::apply(part, &mut objects, stack);
    priority::apply(part, &mut objects, stack);
    if part == Part::Monitoring {
        monitoring::finish(&mut objects, stack);
    }
    objects
}

fn set_namespace(object: &mut DynamicObject, namespace: &str) {
    if kind(object) == "Namespace" && object.metadata.name.as_deref() == Some(WRITTEN_FOR) {
        object.metadata.name = Some(namespace.to_owned());
    }
    if object.metadata.namespace.as_deref() == Some(WRITTEN_FOR) {
        object.metadata.namespace = Some(namespace.to_owned());
    }
    if let Some(subjects) = object.data.get_mut("subjects").and_then(Value::as_array_mut) {
        for subject in subjects {
            if subject.get("namespace").and_then(Value::as_str) == Some(WRITTEN_FOR) {
                subject["namespace"] = json!(namespace);
            }
        }
    }
}

/// The recommended labels: <https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/>.
fn set_labels(object: &mut DynamicObject, part: Part) {
    let name = object.metadata.name.clone().unwrap_or_default();
    let labels = object.metadata.labels.get_or_insert_default();
    labels.insert(MANAGED_BY.into(), FIELD_MANAGER.into());
    labels.insert("app.kubernetes.io/part-of".into(), "stackctl".into());
    labels.insert("app.kubernetes.io/component".into(), part.name().into());
    // A label's value is at most 63 characters of a smaller alphabet than a name's.
    let value: String = name.chars().map(|c| if c == ':' { '.' } else { c }).take(63).collect();
    labels.entry("app.kubernetes.io/name".into()).or_insert_with(|| value.trim_end_matches(['.', '-', '_']).to_owned());
}

/// Replaces the images of containers, of the operand and, where the operator starts pods with its own
/// image, in its environment. What is in the cluster already must be used: a cluster without a registry
/// in reach cannot `Always` pull.
fn set_images(value: &mut Value, images: &Images) {
    match value {
        Value::Object(map) => {
            let mut replaced = false;
            for key in ["image", "imageName"] {
                if let Some(image) = map.get(key).and_then(Value::as_str).and_then(|name| images.get(name)) {
                    map.insert(key.into(), json!(image));
                    replaced = true;
                }
            }
            if replaced && map.get("imagePullPolicy").is_some_and(|policy| policy == "Always") {
                map.insert("imagePullPolicy".into(), json!("IfNotPresent"));
            }
            if map.get("name").is_some_and(|name| name == "OPERATOR_IMAGE_NAME" || name == "SIDECAR_IMAGE")
                && let Some(image) = map.get("value").and_then(Value::as_str).and_then(|name| images.get(name))
            {
                map.insert("value".into(), json!(image));
            }
            map.values_mut().for_each(|value| set_images(value, images));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| set_images(item, images)),
        _ => {}
    }
}

fn set_database(data: &mut Value, stack: &Stack) {
    data["spec"]["instances"] = json!(stack.instances);
    data["spec"]["storage"]["size"] = json!(stack.storage);
    if let Some(class) = &stack.storage_class {
        data["spec"]["storage"]["storageClass"] = json!(class);
    }
}

/// How long, in milliseconds, a standby waits for an answer from the primary's address before it tries again.
/// A pod that is gone answers nothing, not even a refusal. With the operator's 5 s the standby that was left
/// hung for them, and with it every commit on the new primary: of gaps of 6.3 and 12.2 s, 3.5 and 5 s were
/// this wait. A second is the least that TCP can do. It can't be set in the Cluster: the name is reserved.
const STANDBY_TCP_USER_TIMEOUT: &str = "1000";

/// Upstream limits the operator to a tenth of a CPU. It is idle but for the seconds of a failover, and those
/// are the ones that count: the limit goes, the request stays.
///
/// One on a node that no longer answers is replaced at once, not after the usual 5 min: if it was the primary's
/// node as well, there is no failover before.
fn tune_operator(data: &mut Value) {
    if let Some(pod) = data.pointer_mut("/spec/template/spec").and_then(Value::as_object_mut) {
        let tolerations = pod.entry("tolerations").or_insert_with(|| json!([]));
        if let Some(tolerations) = tolerations.as_array_mut() {
            tolerations.push(json!({
                "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": 0,
            }));
        }
    }
    if let Some(containers) = data.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut) {
        for container in containers {
            if let Some(limits) = container.pointer_mut("/resources/limits").and_then(Value::as_object_mut) {
                limits.remove("cpu");
            }
            if let Some(env) = container.get_mut("env").and_then(Value::as_array_mut) {
                env.push(json!({"name": "STANDBY_TCP_USER_TIMEOUT", "value": STANDBY_TCP_USER_TIMEOUT}));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        assets::{components, parse},
        config::Sizes,
    };

    fn stack() -> Stack {
        Stack {
            namespace: "team-a".into(),
            instances: 5,
            storage: "2Gi".into(),
            storage_class: Some("fast".into()),
            pull_secret: None,
            priority_class: None,
            sizes: Sizes::default(),
        }
    }

    fn images() -> Images {
        let bundle = |name: &str| (name == "postgresql").then(|| "local/pg:17".to_owned());
        Images::new(&components().unwrap(), bundle, "user-app:abc".into())
    }

    #[test]
    fn the_database_gets_the_settings_the_image_and_the_labels() {
        let objects = render(Part::Database, Part::Database.embedded().unwrap(), &stack(), &images());
        let cluster = objects.iter().find(|object| kind(object) == "Cluster").unwrap();
        assert_eq!(cluster.metadata.namespace.as_deref(), Some("team-a"));
        assert_eq!(cluster.data["spec"]["instances"], 5);
        assert_eq!(cluster.data["spec"]["storage"], json!({"size": "2Gi", "storageClass": "fast"}));
        assert_eq!(cluster.data["spec"]["imageName"], "local/pg:17");
        let labels = cluster.metadata.labels.as_ref().unwrap();
        assert_eq!(labels["app.kubernetes.io/managed-by"], "stackctl");
        assert_eq!(labels["app.kubernetes.io/component"], "database");
        let namespace = render(Part::Base, Part::Base.embedded().unwrap(), &stack(), &images()).remove(0);
        assert_eq!(namespace.metadata.name.as_deref(), Some("team-a"));
    }

    #[test]
    fn upstreams_operator_is_used_from_the_cluster_without_its_limit_and_not_left_on_a_lost_node() {
        let pinned = components().unwrap();
        let image = pinned.get("cnpg-operator").and_then(|operator| operator.image.as_deref()).unwrap();
        let text = format!(
            "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: cnpg-controller-manager, namespace: cnpg-system}}
spec:
  template:
    spec:
      containers:
      - name: manager
        image: {image}
        imagePullPolicy: Always
        env: [{{name: OPERATOR_IMAGE_NAME, value: '{image}'}}]
        resources: {{limits: {{cpu: 100m, memory: 200Mi}}}}
"
        );
        let replaced = |name: &str| (name == "cnpg-operator").then(|| "local/cnpg:1".to_owned());
        let images = Images::new(&pinned, replaced, "user-app:abc".into());
        let objects = render(Part::Operator, parse(&text, "x").unwrap(), &stack(), &images);
        let pod = &objects[0].data["spec"]["template"]["spec"];
        assert_eq!(pod["tolerations"][0]["key"], "node.kubernetes.io/unreachable");
        assert_eq!(pod["tolerations"][0]["tolerationSeconds"], 0);
        let container = &pod["containers"][0];
        assert_eq!(container["image"], "local/cnpg:1");
        assert_eq!(container["imagePullPolicy"], "IfNotPresent");
        assert_eq!(container["env"][0]["value"], "local/cnpg:1");
        assert_eq!(container["env"][1], json!({"name": "STANDBY_TCP_USER_TIMEOUT", "value": "1000"}));
        assert_eq!(container["resources"]["limits"], json!({"memory": "200Mi"}));
        assert_eq!(objects[0].metadata.namespace.as_deref(), Some("cnpg-system"));
    }

    #[test]
    fn every_image_of_our_manifests_is_known() {
        let images = images();
        for part in [Part::Backup, Part::Database, Part::FailoverHelper, Part::Autoscaling, Part::Web, Part::Monitoring]
        {
            for object in part.embedded().unwrap() {
                let mut found = Vec::new();
                names(&object.data, &mut found);
                for name in found {
                    assert!(images.get(&name).is_some(), "{name} in {part} has no image");
                }
            }
        }
    }

    fn names(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found
                    .extend(["image", "imageName"].iter().filter_map(|key| map.get(*key)?.as_str().map(str::to_owned)));
                map.values().for_each(|value| names(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| names(item, found)),
            _ => {}
        }
    }
}
