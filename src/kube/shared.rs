//! What stacks share: who else uses an object, so that it is removed with its last user and not before.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, api::ListParams};

use super::{
    Kube,
    object::{Entry, INVENTORY, ObjectRef},
};
use crate::{error::Result, names::APP_NAME};

/// The other stacks of a cluster and what each of them has on record.
#[derive(Debug, Default)]
pub struct OtherStacks {
    namespace: String,
    stacks: Vec<(String, Vec<Entry>)>,
    /// Why it is not known who else there is.
    unknown: Option<String>,
}

/// Why an object is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeepReason {
    /// Other stacks use it; the text names them.
    Used(String),
    /// It is not known whether another stack uses it; the text says why.
    Unknown(String),
}

impl OtherStacks {
    /// The stacks beside the one in `namespace`, from their inventories, by one request.
    ///
    /// # Errors
    /// The server does not answer. A refusal is none: what may be shared is kept then.
    pub async fn read(kube: &Kube, namespace: &str) -> Result<Self> {
        let api: Api<ConfigMap> = Api::all(kube.client());
        let params = ListParams::default().labels(&format!("{APP_NAME}={INVENTORY}"));
        let found = kube.attempt("list the inventories of other stacks", || api.list(&params)).await?;
        let mut others = OtherStacks { namespace: namespace.to_owned(), ..OtherStacks::default() };
        match found {
            Ok(list) => list.items.into_iter().for_each(|map| others.add(map)),
            Err(status) => {
                let why = format!("the inventories of other stacks cannot be listed: {}", status.message);
                others.unknown = Some(why);
            }
        }
        Ok(others)
    }

    fn add(&mut self, map: ConfigMap) {
        let stack = map.metadata.namespace.unwrap_or_default();
        // The label alone may be anybody's.
        if stack == self.namespace || map.metadata.name.as_deref() != Some(INVENTORY) {
            return;
        }
        let mut all = Vec::new();
        for (part, text) in map.data.unwrap_or_default() {
            match serde_json::from_str::<Vec<Entry>>(&text) {
                Ok(entries) => all.extend(entries),
                Err(_) => {
                    let why = format!("the inventory of another stack ({stack}/{INVENTORY}) is damaged at {part}");
                    self.unknown = Some(why);
                }
            }
        }
        self.stacks.push((stack, all));
    }

    /// Why `object` is not to be removed with the stack; `None`: it is that stack's alone.
    pub fn keep(&self, object: &ObjectRef) -> Option<KeepReason> {
        if !may_be_shared(object, &self.namespace) {
            return None;
        }
        let uses = |entries: &[Entry]| entries.iter().any(|entry| entry.object.same_object(object));
        let users: Vec<&str> =
            self.stacks.iter().filter(|(_, entries)| uses(entries)).map(|(stack, _)| stack.as_str()).collect();
        if !users.is_empty() {
            return Some(KeepReason::Used(match users.as_slice() {
                [one] => format!("the stack in {one} also uses it"),
                _ => format!("the stacks in {} also use it", users.join(", ")),
            }));
        }
        self.unknown.clone().map(KeepReason::Unknown)
    }
}

impl KeepReason {
    /// The reason, for people.
    pub fn why(&self) -> &str {
        match self {
            KeepReason::Used(why) | KeepReason::Unknown(why) => why,
        }
    }
}

/// Whether stacks beside the one in `namespace` can use the object: it is neither in its namespace nor the namespace.
pub(super) fn may_be_shared(object: &ObjectRef, namespace: &str) -> bool {
    match &object.namespace {
        Some(place) => place != namespace,
        None => !(object.is("", "Namespace") && object.name == namespace),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kube::api::ObjectMeta;

    use super::*;

    fn inventory(stack: &str, text: &str) -> ConfigMap {
        let metadata =
            ObjectMeta { name: Some(INVENTORY.into()), namespace: Some(stack.into()), ..ObjectMeta::default() };
        let data = Some(BTreeMap::from([("backup".to_owned(), text.to_owned())]));
        ConfigMap { metadata, data, ..ConfigMap::default() }
    }

    const SECRET: &str = r#"[{"apiVersion":"v1","kind":"Secret","namespace":"cnpg-system","name":"plugin"}]"#;

    fn of(inventories: &[(&str, &str)], unknown: Option<&str>) -> OtherStacks {
        let unknown = unknown.map(str::to_owned);
        let mut others = OtherStacks { namespace: "a".into(), unknown, ..OtherStacks::default() };
        inventories.iter().for_each(|(stack, text)| others.add(inventory(stack, text)));
        others
    }

    #[test]
    fn what_others_use_is_kept_and_they_are_named() {
        let plugin = ObjectRef::namespaced("v1", "Secret", "cnpg-system", "plugin");
        let why = |others: &OtherStacks| others.keep(&plugin).map(|keep| keep.why().to_owned());
        assert_eq!(why(&of(&[("a", SECRET)], None)), None, "one's own use is none of another");
        assert_eq!(why(&of(&[("b", SECRET)], None)).unwrap(), "the stack in b also uses it");
        assert_eq!(why(&of(&[("b", SECRET), ("c", SECRET)], None)).unwrap(), "the stacks in b, c also use it");
        let other = ObjectRef::namespaced("v1", "Secret", "cnpg-system", "other");
        assert_eq!(of(&[("b", SECRET)], None).keep(&other), None);
    }

    #[test]
    fn what_may_be_shared_is_kept_while_it_is_not_known_who_uses_it() {
        let crd = ObjectRef::cluster("apiextensions.k8s.io/v1", "CustomResourceDefinition", "x");
        assert!(matches!(of(&[], Some("forbidden")).keep(&crd), Some(KeepReason::Unknown(_))));
        assert!(
            matches!(of(&[("b", "?")], None).keep(&crd), Some(KeepReason::Unknown(why)) if why.contains("damaged"))
        );
        for own in [ObjectRef::cluster("v1", "Namespace", "a"), ObjectRef::namespaced("v1", "Secret", "a", "plugin")] {
            assert_eq!(of(&[], Some("forbidden")).keep(&own), None, "{own}");
        }
    }
}
