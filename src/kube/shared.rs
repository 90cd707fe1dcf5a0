//! What stacks share: who else uses an object, so that it is removed with its last user and not before.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DynamicObject, ListParams, Patch},
};
use serde_json::json;

use super::{
    Kube,
    live::{self, USED_BY},
    merge_params,
    object::{Entry, INVENTORY, ObjectRef},
};
use crate::{
    error::Result,
    names::{APP_NAME, FIELD_MANAGER},
};

/// The other stacks of a cluster and what each of them has on record.
#[derive(Debug, Default)]
pub struct OtherStacks {
    namespace: String,
    stacks: Vec<(String, Vec<Entry>)>,
    /// What the objects themselves say: who uses them, of the namespaces that there are.
    marks: BTreeMap<ObjectRef, BTreeSet<String>>,
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

    /// Reads who uses each of `objects` by its own word: an inventory may have been lost. A namespace that is gone has no
    /// stack any more.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn read_marks(&mut self, kube: &Kube, objects: impl Iterator<Item = &ObjectRef>) -> Result<()> {
        let mut known = Vec::new();
        for object in objects.filter(|object| may_be_shared(object, &self.namespace)) {
            // A kind that is not known any more has no objects.
            if kube.known(object).is_some() {
                known.push(object.clone());
            }
        }
        let mut there: BTreeMap<String, bool> = BTreeMap::new();
        for (object, found) in live::metadata(kube, &known).await? {
            for user in found.used_by.into_iter().filter(|user| *user != self.namespace) {
                let lives = match there.get(&user) {
                    Some(lives) => *lives,
                    None => kube.get(&ObjectRef::cluster("v1", "Namespace", &user)).await?.is_some(),
                };
                there.insert(user.clone(), lives);
                if lives {
                    self.marks.entry(object.clone()).or_default().insert(user);
                }
            }
        }
        Ok(())
    }

    /// The other stacks that use `object`, by their inventories and by what it says itself as far as that was read.
    pub fn users(&self, object: &ObjectRef) -> BTreeSet<&str> {
        let uses = |entries: &[Entry]| entries.iter().any(|entry| entry.object.same_object(object));
        let by_inventory = self.stacks.iter().filter(|(_, entries)| uses(entries)).map(|(stack, _)| stack.as_str());
        let by_mark = self.marks.iter().filter(|(marked, _)| marked.same_object(object));
        by_inventory.chain(by_mark.flat_map(|(_, users)| users.iter().map(String::as_str))).collect()
    }

    /// Why `object` is not to be removed with the stack; `None`: it is that stack's alone.
    pub fn keep(&self, object: &ObjectRef) -> Option<KeepReason> {
        if !may_be_shared(object, &self.namespace) {
            return None;
        }
        let users: Vec<&str> = self.users(object).into_iter().collect();
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

/// Names on an object the stacks that use it, by their namespaces.
pub(super) fn mark_users<'a>(object: &mut DynamicObject, users: impl Iterator<Item = &'a str>) {
    let annotations = object.metadata.annotations.get_or_insert_default();
    annotations.extend(users.map(|user| (format!("{USED_BY}{user}"), "true".to_owned())));
}

/// Strikes a stack out of those that use an object, which stays for the others.
///
/// # Errors
/// The server does not answer or forbids it.
pub(super) async fn strike_out(kube: &Kube, object: &ObjectRef, user: &str) -> Result<()> {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {format!("{USED_BY}{user}"): null}}}));
    let (api, params) = (kube.api(object).await?, merge_params(FIELD_MANAGER));
    match api.patch(&object.name, &params, &patch).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        struck => struck.map(drop).with_context(|| format!("cannot write on {object} that {user} no longer uses it")),
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
    fn an_object_says_itself_who_uses_it() {
        let crd = ObjectRef::cluster("apiextensions.k8s.io/v1", "CustomResourceDefinition", "x");
        let mut others = of(&[("c", SECRET)], None);
        others.marks.insert(crd.clone(), BTreeSet::from(["b".to_owned()]));
        assert_eq!(others.keep(&crd).unwrap().why(), "the stack in b also uses it", "though b's inventory was lost");
        let plugin = ObjectRef::namespaced("v1", "Secret", "cnpg-system", "plugin");
        others.marks.insert(plugin.clone(), BTreeSet::from(["b".to_owned(), "c".to_owned()]));
        assert_eq!(others.keep(&plugin).unwrap().why(), "the stacks in b, c also use it");
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
