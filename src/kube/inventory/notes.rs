//! The text of an inventory: its parts, and what it says beside them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use crate::{
    error::{Result, failed},
    kube::{Entry, INVENTORY},
};

pub(super) type Parts = BTreeMap<String, Vec<Entry>>;

/// The annotation with the name of the Cluster that the app uses, where that is not the one of the manifests.
pub(super) const DATABASE: &str = "stackctl/database";
/// The annotation with a note on what made the stack.
pub(super) const ORIGIN: &str = "stackctl/made-by";

/// What an inventory says beside its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct InventoryNotes {
    /// The Cluster that the app uses.
    pub database: Option<String>,
    /// What made the stack.
    pub origin: Option<String>,
}

/// The parts that a ConfigMap lists, and its notes.
pub(super) fn parse(found: ConfigMap, namespace: &str) -> Result<(Parts, InventoryNotes)> {
    let mut parts = Parts::new();
    for (part, text) in found.data.unwrap_or_default() {
        let entries = serde_json::from_str(&text).map_err(|error| {
            failed(format!("the inventory (ConfigMap {namespace}/{INVENTORY}) is damaged at {part}: {error}")).remedy(
                "restore the ConfigMap from a copy; or delete it and run stackctl up, which makes it anew: what the \
                         version before found there and had no mark of its own is then taken for stackctl's",
            )
        })?;
        parts.insert(part, entries);
    }
    let mut annotations = found.metadata.annotations.unwrap_or_default();
    Ok((parts, InventoryNotes { database: annotations.remove(DATABASE), origin: annotations.remove(ORIGIN) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::ObjectRef;

    /// Of a stack whose app was given a restored database.
    #[test]
    fn the_inventory_that_8b80009_wrote_is_read_and_written_as_it_was() {
        let text = include_str!("../../../tests/compat/8b80009/inventory.json");
        let written: ConfigMap = serde_json::from_str(text).unwrap();
        let data = written.data.clone().unwrap();
        let (parts, notes) = parse(written, "user-app").unwrap();
        assert_eq!(notes, InventoryNotes { database: Some("user-db-old".into()), origin: None });
        let cluster = |name| ObjectRef::namespaced("postgresql.cnpg.io/v1", "Cluster", "user-app", name);
        assert!(parts["database"].contains(&Entry { object: cluster("user-db-old"), adopted: false }));
        assert!(parts["restored"].iter().any(|entry| entry.object == cluster("user-db")));
        let again = parts.iter().map(|(part, entries)| (part.clone(), serde_json::to_string(entries).unwrap()));
        assert_eq!(again.collect::<BTreeMap<_, _>>(), data);
    }

    #[test]
    fn what_was_adopted_is_known_by_its_mark() {
        let text = r#"[{"apiVersion":"v1","kind":"Namespace","name":"user-app","adopted":true}]"#;
        let data = BTreeMap::from([("base".to_owned(), text.to_owned())]);
        let (parts, notes) = parse(ConfigMap { data: Some(data), ..ConfigMap::default() }, "user-app").unwrap();
        assert!(parts["base"][0].adopted && notes == InventoryNotes::default());
        assert_eq!(serde_json::to_string(&parts["base"]).unwrap(), text);
    }
}
