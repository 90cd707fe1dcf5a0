//! Naming objects.

use std::fmt;

use kube::api::DynamicObject;
use serde::{Deserialize, Serialize};

use crate::error::{Result, failed};

/// The name of the ConfigMap that is the inventory.
pub const INVENTORY: &str = "stackctl-inventory";

/// A line is folded from this many characters on: never, for what a manifest holds. A long image or address on a line of its own
/// is found by no `grep`, and its key says `>-`.
const FOLDED_FROM: usize = 1 << 20;

/// Objects as YAML documents, for people and for kubectl.
///
/// # Errors
/// Never in practice: only if one could not be written as YAML.
pub fn to_yaml<T: Serialize>(objects: &[T]) -> Result<String> {
    let options = serde_saphyr::ser_options! { folded_wrap_chars: FOLDED_FROM };
    Ok(serde_saphyr::to_string_multiple_with_options(objects, options)?)
}

/// Names one object: kind, namespace and name. Two references are equal when they name the same object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// E.g. `apps/v1`, or `v1` for the core group.
    pub api_version: String,
    /// E.g. `Deployment`.
    pub kind: String,
    /// `None` for what is not in a namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
}

impl ObjectRef {
    /// Names an object in a namespace.
    pub fn namespaced(api_version: &str, kind: &str, namespace: &str, name: &str) -> Self {
        ObjectRef {
            api_version: api_version.into(),
            kind: kind.into(),
            namespace: Some(namespace.into()),
            name: name.into(),
        }
    }

    /// Names an object outside namespaces.
    pub fn cluster(api_version: &str, kind: &str, name: &str) -> Self {
        ObjectRef { api_version: api_version.into(), kind: kind.into(), namespace: None, name: name.into() }
    }

    /// The reference of an object.
    ///
    /// # Errors
    /// An object without `apiVersion`, `kind` or `metadata.name`.
    pub fn of(object: &DynamicObject) -> Result<Self> {
        let types = object.types.as_ref().ok_or_else(|| failed("a manifest has no apiVersion and kind"))?;
        let name = object
            .metadata
            .name
            .clone()
            .ok_or_else(|| failed(format!("a manifest of kind {} has no metadata.name", types.kind)))?;
        Ok(ObjectRef {
            api_version: types.api_version.clone(),
            kind: types.kind.clone(),
            namespace: object.metadata.namespace.clone(),
            name,
        })
    }

    /// The API group; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.rsplit_once('/').map_or("", |(group, _)| group)
    }

    /// Whether it is of this group and kind, in whatever version.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.kind == kind && self.group() == group
    }

    /// Whether both name the same object, in whatever version of its API.
    pub fn same_object(&self, other: &ObjectRef) -> bool {
        self.group() == other.group()
            && self.kind == other.kind
            && self.namespace == other.namespace
            && self.name == other.name
    }
}

/// An object in the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The object itself.
    #[serde(flatten)]
    pub object: ObjectRef,
    /// Whether the object was there before and without us, so that it is not ours to delete.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_the_api_does_not_make_another_object() {
        let v1 = ObjectRef::namespaced("autoscaling/v1", "HorizontalPodAutoscaler", "a", "b");
        let v2 = ObjectRef::namespaced("autoscaling/v2", "HorizontalPodAutoscaler", "a", "b");
        assert!(v1.same_object(&v2) && v1 != v2);
        assert_eq!(v1.group(), "autoscaling");
        assert_eq!(ObjectRef::cluster("v1", "Namespace", "a").group(), "");
        assert_eq!(v1.to_string(), "HorizontalPodAutoscaler a/b");
    }
}
