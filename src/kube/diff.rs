//! The cluster compared with manifests, by the API server's own dry run: its defaults, its conversions and
//! its webhooks decide what would change.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures::stream::{self, StreamExt, TryStreamExt};
use kube::api::DynamicObject;
use serde::Serialize;
use serde_json::{Value, json};
use similar::TextDiff;

use super::{Inventory, Kube, ObjectRef, apply, live, to_yaml};
use crate::error::Result;

/// Requests at the same time.
const CONCURRENCY: usize = 8;
/// For how long a refusal that may pass (a webhook that just starts) is tried again.
const PATIENCE: Duration = Duration::from_secs(15);

/// How an object differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DiffKind {
    /// It is not there and would be created.
    Missing,
    /// It would be changed.
    Changed,
    /// It was applied once, is not wanted any more, and would be deleted.
    Extra,
}

/// One object that differs.
#[derive(Debug, Clone, Serialize)]
pub struct ObjectDiff {
    /// The object that differs.
    pub object: ObjectRef,
    /// The kind of difference.
    pub kind: DiffKind,
    /// A unified diff from the cluster's object to the wanted one; values of Secrets are masked.
    pub text: String,
}

/// Compares the cluster with `objects`, and with the inventory in `namespace`; what is equal is left out.
/// Fields that others own and `objects` asks for differently count as differences. Nothing is written.
///
/// # Errors
/// The API server's refusal of an object: see [`apply`](super::apply()).
pub async fn diff(kube: &Kube, namespace: &str, objects: &[DynamicObject]) -> Result<Vec<ObjectDiff>> {
    let mut wanted = Vec::with_capacity(objects.len());
    for object in objects {
        let reference = ObjectRef::of(object)?;
        let known = kube.knows(&reference.api_version, &reference.kind).await?;
        let reference = if known { live::scoped(kube, &reference).await? } else { reference };
        wanted.push((reference, object));
    }
    let references: Vec<ObjectRef> = wanted.iter().map(|(reference, _)| reference.clone()).collect();
    let extra = leftovers(kube, namespace, &references).await?;
    let all: Vec<ObjectRef> = references.iter().chain(&extra).cloned().collect();
    let found = live::objects(kube, &all).await?;
    let found = &found;

    let comparisons: Vec<_> = wanted
        .into_iter()
        .map(|(reference, object)| async move { compare(kube, reference, object, found).await })
        .collect();
    let mut differences: Vec<ObjectDiff> = stream::iter(comparisons)
        .buffered(CONCURRENCY)
        .try_filter_map(|difference| async move { Ok(difference) })
        .try_collect()
        .await?;
    for reference in extra {
        if let Some(object) = found.get(&reference) {
            let text = unified(&reference, Some(object), None)?;
            differences.push(ObjectDiff { object: reference, kind: DiffKind::Extra, text });
        }
    }
    Ok(differences)
}

/// What the inventory has and `wanted` has not.
async fn leftovers(kube: &Kube, namespace: &str, wanted: &[ObjectRef]) -> Result<Vec<ObjectRef>> {
    let inventory = Inventory::load(kube, namespace).await?;
    let mut extra = Vec::new();
    for entry in inventory.parts().iter().flat_map(|part| inventory.entries(part)) {
        if !entry.adopted && !wanted.iter().any(|wanted| wanted.same_object(&entry.object)) {
            extra.push(entry.object);
        }
    }
    Ok(extra)
}

async fn compare(
    kube: &Kube,
    reference: ObjectRef,
    object: &DynamicObject,
    found: &HashMap<ObjectRef, DynamicObject>,
) -> Result<Option<ObjectDiff>> {
    let before = found.get(&reference);
    let after = if kube.known(&reference).is_some() {
        apply::dry_run(kube, &reference, object, Instant::now() + PATIENCE).await?
    } else {
        None
    };
    // Without its namespace or its kind there is no dry run: then it is the manifest as it is.
    let after = after.as_ref().unwrap_or(object);
    let kind = if before.is_some() { DiffKind::Changed } else { DiffKind::Missing };
    let text = unified(&reference, before, Some(after))?;
    Ok((!text.is_empty()).then_some(ObjectDiff { object: reference, kind, text }))
}

/// A unified diff; empty when both are equal.
fn unified(reference: &ObjectRef, before: Option<&DynamicObject>, after: Option<&DynamicObject>) -> Result<String> {
    let mut before = before.map(comparable).transpose()?;
    let mut after = after.map(comparable).transpose()?;
    if reference.is("", "Secret") {
        mask(before.as_mut(), after.as_mut());
    }
    if before == after {
        return Ok(String::new());
    }
    let yaml = |value: Option<&Value>| -> Result<String> {
        Ok(value.map(|value| to_yaml(&[value])).transpose()?.unwrap_or_default())
    };
    let (from, to) = (yaml(before.as_ref())?, yaml(after.as_ref())?);
    let side = |there: bool, side: &str| if there { format!("{reference} ({side})") } else { "/dev/null".to_owned() };
    let diff = TextDiff::from_lines(&from, &to);
    let headers = (side(before.is_some(), "in the cluster"), side(after.is_some(), "wanted"));
    Ok(diff.unified_diff().context_radius(3).header(&headers.0, &headers.1).to_string())
}

/// The object without what differs at every look or is not a manifest's to say.
fn comparable(object: &DynamicObject) -> Result<Value> {
    let mut value = serde_json::to_value(object)?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = value["metadata"].as_object_mut() {
        for field in ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"] {
            metadata.remove(field);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            // A copy of the whole object, made by another tool: of a Secret, with its values.
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
    Ok(value)
}

/// Replaces a Secret's values so that one sees which differ, and nothing else of them.
fn mask(mut before: Option<&mut Value>, mut after: Option<&mut Value>) {
    for section in ["data", "stringData"] {
        let values = |side: Option<&Value>| -> HashMap<String, Value> {
            let map = side.and_then(|value| value.get(section)).and_then(Value::as_object);
            map.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        let (old, new) = (values(before.as_deref()), values(after.as_deref()));
        for (side, other, changed) in
            [(before.as_deref_mut(), &new, "*** (before)"), (after.as_deref_mut(), &old, "*** (after)")]
        {
            let map = side.and_then(|value| value.get_mut(section)).and_then(Value::as_object_mut);
            for (key, value) in map.into_iter().flatten() {
                let differs = other.get(key).is_some_and(|other| other != value);
                *value = json!(if differs { changed } else { "***" });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(password: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "s", "namespace": "a", "resourceVersion": password, "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": format!("{{\"data\": \"{password}\"}}")}},
            "data": {"password": password, "user": "app"},
        }))
        .unwrap()
    }

    #[test]
    fn a_secrets_values_are_never_shown() {
        let reference = ObjectRef::of(&secret("x")).unwrap();
        let text = unified(&reference, Some(&secret("c2VjcmV0MQ")), Some(&secret("c2VjcmV0Mg"))).unwrap();
        assert!(!text.contains("c2Vj") && !text.contains("app\n"), "{text}");
        assert!(
            text.contains("-  password: '*** (before)'") || text.contains("-  password: \"*** (before)\""),
            "{text}"
        );
        assert!(text.contains("\n   user: '***'") || text.contains("\n   user: \"***\""), "{text}");
        assert_eq!(unified(&reference, Some(&secret("same")), Some(&secret("same"))).unwrap(), "");
        for (before, after) in [(Some(secret("c2VjcmV0MQ")), None), (None, Some(secret("c2VjcmV0MQ")))] {
            let text = unified(&reference, before.as_ref(), after.as_ref()).unwrap();
            assert!(text.contains("/dev/null") && !text.contains("c2Vj"), "{text}");
        }
    }

    #[test]
    fn what_is_the_servers_alone_is_no_difference() {
        let object = |version: &str, status: &str| -> DynamicObject {
            serde_json::from_value(json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "c", "resourceVersion": version, "generation": 3, "uid": version,
                             "managedFields": [{"manager": version}]},
                "data": {"a": "b"}, "status": {"phase": status},
            }))
            .unwrap()
        };
        let reference = ObjectRef::of(&object("1", "")).unwrap();
        assert_eq!(unified(&reference, Some(&object("1", "old")), Some(&object("2", "new"))).unwrap(), "");
    }
}
