//! A new Cluster from what a store holds. Nothing is ever restored over a running database.

use anyhow::Context as _;
use kube::{
    Api,
    api::{DynamicObject, ListParams},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{OBJECT_STORE, PLUGIN};
use crate::{
    error::Result,
    kube::{Kube, ObjectRef, readiness},
};

/// The label of restored Clusters, with the server that they come from.
pub const RESTORED_FROM: &str = "stackctl/restored-from";
/// The annotation that tells what was asked for.
pub const RESTORED_TO: &str = "stackctl/restored-to";
/// The source's name within the new Cluster.
const ORIGIN: &str = "origin";

/// What to make.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The new Cluster's name; what it archives goes under the same name.
    pub name: &'a str,
    /// Whose backups.
    pub server: &'a str,
    /// How many instances.
    pub instances: u32,
    /// Whether it archives its own log: not what is only looked at and deleted.
    pub archives: bool,
    /// What was asked for, for people.
    pub to: &'a str,
    /// The operator's `recoveryTarget`.
    pub recovery: Option<Value>,
}

/// The new Cluster, otherwise like `like`: the database's own manifest.
///
/// # Errors
/// Only if `like` is no Cluster.
pub fn cluster(like: &DynamicObject, wanted: &Wanted) -> Result<DynamicObject> {
    let mut cluster = like.clone();
    cluster.metadata.name = Some(wanted.name.to_owned());
    let labels = cluster.metadata.labels.get_or_insert_default();
    labels.insert(RESTORED_FROM.into(), wanted.server.to_owned());
    labels.insert("app.kubernetes.io/name".into(), wanted.name.to_owned());
    cluster.metadata.annotations.get_or_insert_default().insert(RESTORED_TO.into(), wanted.to.to_owned());
    let spec = cluster.data.get_mut("spec").and_then(Value::as_object_mut).context("the database has no spec")?;
    let store = json!({"barmanObjectName": OBJECT_STORE, "serverName": wanted.server});
    spec.insert("externalClusters".into(), json!([{"name": ORIGIN, "plugin": {"name": PLUGIN, "parameters": store}}]));
    let database = spec.get("bootstrap").and_then(|bootstrap| bootstrap.get("initdb")).cloned().unwrap_or_default();
    let mut recovery = json!({"source": ORIGIN, "database": database["database"], "owner": database["owner"]});
    if let Some(target) = &wanted.recovery {
        recovery["recoveryTarget"] = target.clone();
    }
    spec.insert("bootstrap".into(), json!({"recovery": recovery}));
    spec.insert("instances".into(), json!(wanted.instances));
    if wanted.archives {
        // Under its own name: two histories in one folder would be two timelines under one number.
        spec["plugins"][0]["parameters"]["serverName"] = json!(wanted.name);
    } else {
        spec.remove("plugins");
    }
    if wanted.instances == 1
        && let Some(postgresql) = spec.get_mut("postgresql").and_then(Value::as_object_mut)
    {
        // Alone, it would wait for a standby for ever.
        postgresql.remove("synchronous");
    }
    Ok(cluster)
}

/// A restored Cluster that is there.
#[derive(Debug, Clone, Serialize)]
pub struct Restored {
    /// Its name.
    pub name: String,
    /// Whose backups it was made from.
    pub from: String,
    /// What was asked for.
    pub to: String,
    /// How it is.
    pub state: String,
}

/// The restored Clusters of a namespace.
///
/// # Errors
/// The API server does not answer.
pub async fn list(kube: &Kube, namespace: &str) -> Result<Vec<Restored>> {
    if !kube.knows("postgresql.cnpg.io/v1", "Cluster").await? {
        return Ok(Vec::new());
    }
    let any = reference(namespace, "");
    let api: Api<DynamicObject> = kube.api(&any).await?;
    let list =
        api.list(&ListParams::default().labels(RESTORED_FROM)).await.context("cannot list the restored Clusters")?;
    let one = |mut object: DynamicObject| {
        object.types = Some(kube::core::TypeMeta { api_version: any.api_version.clone(), kind: any.kind.clone() });
        let state = readiness(&object).detail();
        let noted = |map: Option<std::collections::BTreeMap<String, String>>, key: &str| {
            map.and_then(|mut map| map.remove(key)).unwrap_or_default()
        };
        Restored {
            from: noted(object.metadata.labels, RESTORED_FROM),
            to: noted(object.metadata.annotations, RESTORED_TO),
            name: object.metadata.name.unwrap_or_default(),
            state,
        }
    };
    Ok(list.items.into_iter().map(one).collect())
}

/// Names a Cluster.
pub fn reference(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef::namespaced("postgresql.cnpg.io/v1", "Cluster", namespace, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::Part;

    fn like() -> DynamicObject {
        let all = Part::Database.embedded().unwrap();
        all.into_iter().find(|object| object.types.as_ref().is_some_and(|types| types.kind == "Cluster")).unwrap()
    }

    fn wanted() -> Wanted<'static> {
        Wanted {
            name: "user-db-r1",
            server: "user-db",
            instances: 3,
            archives: true,
            to: "2026-11-24T11:30:00Z",
            recovery: Some(json!({"targetTime": "2026-11-24T11:30:00Z"})),
        }
    }

    #[test]
    fn the_new_cluster_reads_from_the_old_name_and_writes_under_its_own() {
        let cluster = cluster(&like(), &wanted()).unwrap();
        assert_eq!(cluster.metadata.name.as_deref(), Some("user-db-r1"));
        assert_eq!(cluster.metadata.labels.as_ref().unwrap()[RESTORED_FROM], "user-db");
        let spec = &cluster.data["spec"];
        assert_eq!(
            spec["bootstrap"],
            json!({"recovery": {"source": "origin", "database": "app", "owner": "app",
                "recoveryTarget": {"targetTime": "2026-11-24T11:30:00Z"}}})
        );
        assert_eq!(spec["externalClusters"][0]["plugin"]["parameters"]["serverName"], "user-db");
        assert_eq!(spec["plugins"][0]["parameters"]["serverName"], "user-db-r1");
        assert_eq!(spec["postgresql"]["synchronous"]["number"], 1, "the rest is as it was");
    }

    #[test]
    fn one_that_is_only_looked_at_archives_nothing_and_waits_for_nobody() {
        let scratch = Wanted { instances: 1, archives: false, recovery: None, ..wanted() };
        let spec = cluster(&like(), &scratch).unwrap().data["spec"].clone();
        assert!(spec.get("plugins").is_none() && spec["postgresql"].get("synchronous").is_none());
        assert!(spec["bootstrap"]["recovery"].get("recoveryTarget").is_none());
        assert_eq!(spec["instances"], 1);
    }
}
