//! What the cluster changes of the manifests of the operator: a foreign one is used and none of ours installed, what stands
//! beside it goes to where it is, and ours is two pods where there are several nodes.

use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::{
    assets::{Part, kind},
    context::Context,
    error::one_line,
    kube::operator::CnpgOperator,
    names::OPERATOR_NAMESPACE,
};

/// Makes the rendered `objects` of `part` those for a cluster with this operator.
pub fn adapt(part: Part, objects: &mut Vec<DynamicObject>, operator: &CnpgOperator) {
    if !operator.is_foreign {
        return;
    }
    if part == Part::Operator {
        objects.clear();
    }
    if part == Part::Backup && operator.plugin_is_foreign {
        let is_plugins = |object: &DynamicObject| {
            object.metadata.namespace.as_deref().is_none_or(|namespace| namespace == OPERATOR_NAMESPACE)
        };
        objects.retain(|object| !is_plugins(object));
    }
    for object in objects {
        move_to(object, &operator.namespace);
    }
}

/// Makes our own operator two pods where there are several nodes, on different ones: the second one leads a few seconds after
/// the first one's node was lost, where a new pod would wait until the node is known to be lost, and start then.
pub async fn double(cx: &Context, part: Part, objects: &mut [DynamicObject]) {
    if part != Part::Operator {
        return;
    }
    let nodes = async { anyhow::Ok(cx.kube().await?.zones().await?.nodes()) };
    match nodes.await {
        Ok(0 | 1) => {}
        Ok(_) => objects.iter_mut().filter(|object| kind(object) == "Deployment").for_each(double_one),
        // Who may not see nodes gets upstream's one pod.
        Err(error) => tracing::debug!("how many nodes there are cannot be told: {}", one_line(&error)),
    }
}

/// How long, in seconds, a leader that is gone is waited for, and how long one tries to stay the leader (upstream: 15 and 10).
/// Shorter ones would have the operator start anew in every pause of a busy API server: it ends when it cannot renew.
const LEADER: [&str; 2] = ["--leader-lease-duration=8", "--leader-renew-deadline=6"];

fn double_one(operator: &mut DynamicObject) {
    let spec = &mut operator.data["spec"];
    spec["replicas"] = json!(2);
    let selector = spec["selector"].clone();
    let Some(pod) = spec.pointer_mut("/template/spec") else { return };
    pod["affinity"] = json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}}]}});
    if let Some(arguments) = pod.pointer_mut("/containers/0/args").and_then(Value::as_array_mut) {
        arguments.extend(LEADER.map(Value::from));
    }
}

fn move_to(object: &mut DynamicObject, namespace: &str) {
    if object.metadata.namespace.as_deref() == Some(OPERATOR_NAMESPACE) {
        object.metadata.namespace = Some(namespace.to_owned());
    }
    if let Some(subjects) = object.data.get_mut("subjects").and_then(Value::as_array_mut) {
        for subject in subjects.iter_mut().filter(|subject| subject["namespace"] == OPERATOR_NAMESPACE) {
            subject["namespace"] = json!(namespace);
        }
    }
    if kind(object) == "NetworkPolicy" {
        rename(&mut object.data, namespace);
    }
    // Prometheus' configuration names the operator's namespace among those that are watched.
    if kind(object) == "ConfigMap" {
        for text in object.data["data"].as_object_mut().into_iter().flat_map(|data| data.values_mut()) {
            if let Some(found) = text.as_str().filter(|text| text.contains(OPERATOR_NAMESPACE)) {
                *text = json!(found.replace(OPERATOR_NAMESPACE, namespace));
            }
        }
    }
}

/// Puts the operator's namespace where a selector names that of ours.
fn rename(value: &mut Value, namespace: &str) {
    match value {
        Value::String(text) if text == OPERATOR_NAMESPACE => *text = namespace.to_owned(),
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, namespace)),
        Value::Object(fields) => fields.values_mut().for_each(|field| rename(field, namespace)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapted(part: Part, operator: &CnpgOperator) -> Vec<DynamicObject> {
        let mut objects = part.embedded().unwrap();
        adapt(part, &mut objects, operator);
        objects
    }

    fn foreign() -> CnpgOperator {
        CnpgOperator { namespace: "cnpg".into(), is_foreign: true, ..CnpgOperator::default() }
    }

    #[test]
    fn our_own_operator_changes_nothing() {
        let objects = adapted(Part::Backup, &CnpgOperator::default());
        assert_eq!(
            serde_json::to_value(objects).unwrap(),
            serde_json::to_value(Part::Backup.embedded().unwrap()).unwrap()
        );
    }

    #[test]
    fn the_plugin_goes_where_the_operator_is() {
        for part in [Part::Backup, Part::Database, Part::Monitoring] {
            let text = serde_json::to_string(&adapted(part, &foreign())).unwrap();
            assert!(!text.contains(OPERATOR_NAMESPACE) && text.contains("\"cnpg\""), "{part:?}");
        }
    }

    #[test]
    fn two_operators_are_on_different_nodes_and_the_second_one_leads_soon() {
        let upstream = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "operator"}, "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": "operator"}},
            "template": {"spec": {"containers": [{"args": ["controller", "--leader-elect"]}]}}}});
        let mut operator: DynamicObject = serde_json::from_value(upstream).unwrap();
        double_one(&mut operator);
        let spec = &operator.data["spec"];
        assert_eq!(spec["replicas"], 2);
        let arguments = &spec["template"]["spec"]["containers"][0]["args"];
        assert_eq!(*arguments, json!(["controller", "--leader-elect", LEADER[0], LEADER[1]]));
        let rule = "/template/spec/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/0";
        let term = &spec.pointer(rule).unwrap()["podAffinityTerm"];
        assert_eq!(
            *term,
            json!({"topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {"app": "operator"}}})
        );
    }

    #[test]
    fn a_plugin_that_is_there_is_used() {
        let operator = CnpgOperator { plugin_is_foreign: true, ..foreign() };
        let kinds: Vec<_> = adapted(Part::Backup, &operator).iter().map(|object| kind(object).to_owned()).collect();
        assert!(kinds.iter().any(|kind| kind == "ObjectStore"), "{kinds:?}");
        assert!(
            adapted(Part::Backup, &operator).iter().all(|object| object.metadata.namespace.as_deref() != Some("cnpg"))
        );
        assert!(kinds.len() < adapted(Part::Backup, &foreign()).len());
    }
}
