//! What is in the cluster now, asked for with few requests: one list for each kind and namespace.

use std::collections::HashMap;

use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ObjectMeta, Time};
use kube::api::{DynamicObject, ListParams};
use serde::Serialize;

use super::{Kube, ObjectRef};
use crate::{error::Result, names::FIELD_MANAGER};

/// The annotation of an object that existed before stackctl came: it is never deleted, whatever the inventory says.
pub(super) const ADOPTED: &str = "stackctl/adopted";

/// Marks an object as one that no `down` deletes.
pub fn adopt(object: &mut DynamicObject) {
    object.metadata.annotations.get_or_insert_default().insert(ADOPTED.into(), "true".into());
}

/// What the annotation of a shared object begins with that names a stack, by its namespace, that uses it.
pub(super) const USED_BY: &str = "stackctl-used-by/";

/// Requests at the same time.
const CONCURRENCY: usize = 8;

/// What applying an object did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It was not there.
    Created,
    /// It was there and something of it changed.
    Configured,
    /// It was as it should be; nothing was written.
    Unchanged,
}

/// What tells whether an apply changed an object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Live {
    pub uid: String,
    pub resource_version: String,
    generation: Option<i64>,
    /// When stackctl last changed something, and which fields it owns.
    own: Option<(Option<Time>, Option<FieldsV1>)>,
    /// Whether it carries the mark of what existed before stackctl came.
    pub adopted: bool,
    /// The stacks that it says use it, by their namespaces.
    pub used_by: Vec<String>,
}

impl Live {
    pub fn of(metadata: &ObjectMeta) -> Self {
        let own = metadata.managed_fields.iter().flatten().find(|entry| {
            entry.manager.as_deref() == Some(FIELD_MANAGER)
                && entry.operation.as_deref() == Some("Apply")
                && entry.subresource.as_deref().unwrap_or("").is_empty()
        });
        Live {
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            generation: metadata.generation,
            own: own.map(|entry| (entry.time.clone(), entry.fields_v1.clone())),
            adopted: metadata.annotations.as_ref().is_some_and(|all| all.contains_key(ADOPTED)),
            used_by: metadata
                .annotations
                .iter()
                .flatten()
                .filter_map(|(key, _)| key.strip_prefix(USED_BY).map(str::to_owned))
                .collect(),
        }
    }

    /// Whether stackctl has applied it.
    pub fn is_ours(&self) -> bool {
        self.own.is_some()
    }
}

/// What an apply changed. Controllers write statuses all the time, so another resource version alone says
/// nothing: the server moves the time of our entry in `managedFields` exactly when our apply changed something.
pub(super) fn change(before: Option<&Live>, after: &Live) -> Change {
    let Some(before) = before.filter(|before| before.uid == after.uid) else { return Change::Created };
    if before.resource_version == after.resource_version && before.own == after.own {
        return Change::Unchanged;
    }
    // The time has whole seconds: two applies within one are told apart by the generation.
    if before.own == after.own && before.generation == after.generation {
        return Change::Unchanged;
    }
    Change::Configured
}

/// The reference with the namespace that the kind asks for: `default` when a namespaced object names none,
/// none when the kind has none.
pub(super) async fn scoped(kube: &Kube, object: &ObjectRef) -> Result<ObjectRef> {
    let resolved = kube.resolve(object).await?;
    let mut scoped = object.clone();
    scoped.namespace = match (resolved.namespaced, scoped.namespace) {
        (true, None) => Some("default".into()),
        (true, some) => some,
        (false, _) => None,
    };
    Ok(scoped)
}

/// Objects by kind and namespace.
pub(super) fn groups(objects: &[ObjectRef]) -> Vec<Vec<&ObjectRef>> {
    let mut groups: Vec<Vec<&ObjectRef>> = Vec::new();
    for object in objects {
        let same = |group: &&mut Vec<&ObjectRef>| {
            group[0].api_version == object.api_version
                && group[0].kind == object.kind
                && group[0].namespace == object.namespace
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(object),
            None => groups.push(vec![object]),
        }
    }
    groups
}

/// A field selector that narrows a list to a group's only member.
pub(super) fn selector(group: &[&ObjectRef]) -> Option<String> {
    (group.len() == 1).then(|| format!("metadata.name={}", group[0].name))
}

fn list_params(group: &[&ObjectRef]) -> ListParams {
    ListParams { field_selector: selector(group), ..ListParams::default() }
}

/// The metadata of those that exist. Their kinds must be known.
pub(super) async fn metadata(kube: &Kube, objects: &[ObjectRef]) -> Result<HashMap<ObjectRef, Live>> {
    let requests = groups(objects).into_iter().map(|group| async move {
        let api = kube.api(group[0]).await?;
        let doing = format!("list {} objects", group[0].kind);
        let params = list_params(&group);
        let list = kube.call(&doing, || api.list_metadata(&params)).await?;
        let by_name: HashMap<_, _> =
            list.items.iter().filter_map(|item| Some((item.metadata.name.as_deref()?, &item.metadata))).collect();
        let found = group.iter().filter_map(|object| {
            by_name.get(object.name.as_str()).map(|metadata| ((*object).clone(), Live::of(metadata)))
        });
        anyhow::Ok(found.collect::<Vec<_>>())
    });
    // Collected first: a closure inside the stream would make the future less than Send.
    let requests: Vec<_> = requests.collect();
    let found = stream::iter(requests).buffer_unordered(CONCURRENCY).try_collect::<Vec<_>>().await?;
    Ok(found.into_iter().flatten().collect())
}

/// The whole of those that exist; objects of unknown kinds do not exist.
pub(super) async fn objects(kube: &Kube, objects: &[ObjectRef]) -> Result<HashMap<ObjectRef, DynamicObject>> {
    let requests = groups(objects).into_iter().map(|group| async move {
        if !kube.knows(&group[0].api_version, &group[0].kind).await? {
            return Ok(Vec::new());
        }
        let api = kube.api(group[0]).await?;
        let doing = format!("list {} objects", group[0].kind);
        let params = list_params(&group);
        let list = kube.call(&doing, || api.list(&params)).await?;
        let mut by_name: HashMap<String, DynamicObject> =
            list.items.into_iter().filter_map(|item| Some((item.metadata.name.clone()?, item))).collect();
        let found = group.iter().filter_map(|object| {
            let mut item = by_name.remove(&object.name)?;
            // Items of a list do not say their kind.
            item.types =
                Some(kube::core::TypeMeta { api_version: object.api_version.clone(), kind: object.kind.clone() });
            Some(((*object).clone(), item))
        });
        anyhow::Ok(found.collect::<Vec<_>>())
    });
    // Collected first: a closure inside the stream would make the future less than Send.
    let requests: Vec<_> = requests.collect();
    let found = stream::iter(requests).buffer_unordered(CONCURRENCY).try_collect::<Vec<_>>().await?;
    Ok(found.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(version: &str, generation: i64, second: i64, uid: &str) -> Live {
        let time = Time(jiff::Timestamp::from_second(second).unwrap());
        Live {
            uid: uid.into(),
            resource_version: version.into(),
            generation: Some(generation),
            own: Some((Some(time), None)),
            adopted: false,
            used_by: Vec::new(),
        }
    }

    #[test]
    fn changes() {
        let before = live("1", 1, 100, "a");
        assert_eq!(change(None, &before), Change::Created);
        assert_eq!(change(Some(&before), &before), Change::Unchanged);
        assert_eq!(change(Some(&before), &live("2", 1, 100, "a")), Change::Unchanged, "only its status moved");
        assert_eq!(change(Some(&before), &live("2", 1, 105, "a")), Change::Configured);
        assert_eq!(change(Some(&before), &live("2", 2, 100, "a")), Change::Configured, "within one second");
        assert_eq!(change(Some(&before), &live("2", 1, 105, "b")), Change::Created, "another one by that name");
    }

    #[test]
    fn one_group_for_each_kind_and_namespace() {
        let all = [
            ObjectRef::namespaced("v1", "Secret", "a", "1"),
            ObjectRef::namespaced("v1", "ConfigMap", "a", "1"),
            ObjectRef::namespaced("v1", "Secret", "a", "2"),
            ObjectRef::namespaced("v1", "Secret", "b", "1"),
        ];
        let groups = groups(&all);
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1]);
        assert_eq!(selector(&groups[0]), None);
        assert_eq!(selector(&groups[1]).as_deref(), Some("metadata.name=1"));
    }
}
