//! What a foreign operator changes of the manifests: none of its own is installed, and what stands beside the operator
//! goes to where it is.

use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::{
    assets::{Part, kind},
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
