//! A new Cluster from what a store holds. Nothing is ever restored over a running database.

use anyhow::Context as _;
use kube::{
    Api,
    api::{DynamicObject, ListParams},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{OBJECT_STORE, OURS, PLUGIN};
use crate::{
    database,
    error::{Result, usage},
    kube::{Kube, readiness},
    names::WEB,
};

/// The label of restored Clusters, with the server that they come from.
pub const RESTORED_FROM: &str = "stackctl/restored-from";
/// The annotation that tells what was asked for.
pub const RESTORED_TO: &str = "stackctl/restored-to";
/// The annotation of a Cluster that the app used, and that another took the place of: until when.
pub const REPLACED: &str = "stackctl/replaced-at";
/// The label that the pods of a restored database get, by which a NetworkPolicy knows them.
pub const RESTORED: (&str, &str) = ("stackctl/restored", WEB);
/// The source's name within the new Cluster.
const ORIGIN: &str = "origin";

/// The Cluster that a restore is to make.
#[derive(Debug, Clone)]
pub struct RecoverySpec<'a> {
    /// The new Cluster's name; what it archives goes under the same name.
    pub name: &'a str,
    /// Whose backups.
    pub server: &'a str,
    /// How many instances.
    pub instances: u32,
    /// Whether it archives its own WAL: not what is only looked at and deleted.
    pub archives: bool,
    /// What was asked for, for people.
    pub to: &'a str,
    /// The operator's `recoveryTarget`.
    pub recovery: Option<Value>,
}

/// The manifest of a new Cluster that recovers from a store, otherwise like `template`: the database's own manifest.
///
/// # Errors
/// Only if `template` is no Cluster.
pub fn recovery_manifest(template: &DynamicObject, wanted: &RecoverySpec) -> Result<DynamicObject> {
    let mut cluster = template.clone();
    cluster.metadata.name = Some(wanted.name.to_owned());
    let labels = cluster.metadata.labels.get_or_insert_default();
    labels.insert(RESTORED_FROM.into(), wanted.server.to_owned());
    labels.insert("app.kubernetes.io/name".into(), wanted.name.to_owned());
    cluster.metadata.annotations.get_or_insert_default().insert(RESTORED_TO.into(), wanted.to.to_owned());
    let spec = cluster.data.get_mut("spec").and_then(Value::as_object_mut).context("the database has no spec")?;
    let store = json!({"barmanObjectName": OBJECT_STORE, "serverName": wanted.server});
    spec.insert("externalClusters".into(), json!([{"name": ORIGIN, "plugin": {"name": PLUGIN, "parameters": store}}]));
    // One that was restored itself tells it in another place.
    let bootstrap = spec.get("bootstrap").cloned().unwrap_or_default();
    let database = bootstrap.get("initdb").or_else(|| bootstrap.get("recovery")).cloned().unwrap_or_default();
    let mut recovery = json!({"source": ORIGIN, "database": database["database"], "owner": database["owner"]});
    if let Some(target) = &wanted.recovery {
        recovery["recoveryTarget"] = target.clone();
    }
    spec.insert("bootstrap".into(), json!({"recovery": recovery}));
    spec.insert("instances".into(), json!(wanted.instances));
    // The app does not use it: it is nobody's to watch, and others may come to it (assets/database/networkpolicy-restored.yaml).
    spec.insert("inheritedMetadata".into(), json!({"labels": {RESTORED.0: RESTORED.1}}));
    if wanted.archives {
        // Under its own name: two histories in one folder would be two timelines under one number.
        let parameters = spec.get_mut("plugins").and_then(|plugins| plugins.pointer_mut("/0/parameters"));
        parameters.context("the database names no plugin that takes its backups")?["serverName"] = json!(wanted.name);
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

/// Keeps of a Cluster that was restored, in the manifest of the `database` whose place it has taken, where it came
/// from: what it is otherwise like is the manifest's to say.
pub fn keep_origin(database: &mut DynamicObject, live: &DynamicObject) {
    for field in ["bootstrap", "externalClusters"] {
        if let Some(value) = live.data["spec"].get(field) {
            database.data["spec"][field] = value.clone();
        }
    }
    for (kept, noted, key) in [
        (&mut database.metadata.labels, &live.metadata.labels, RESTORED_FROM),
        (&mut database.metadata.annotations, &live.metadata.annotations, RESTORED_TO),
    ] {
        if let Some(value) = noted.as_ref().and_then(|noted| noted.get(key)) {
            kept.get_or_insert_default().insert(key.into(), value.clone());
        }
    }
}

/// A Cluster beside the one that the app uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// The database's name.
    pub name: String,
    /// Whose backups it was made from; not of one that the app used first.
    pub from: Option<String>,
    /// What was asked for.
    pub to: Option<String>,
    /// Until when the app used it, if it did.
    pub used_until: Option<String>,
    /// How it is.
    pub state: String,
}

impl Restored {
    fn of(object: &DynamicObject) -> Restored {
        let noted =
            |map: &Option<std::collections::BTreeMap<String, String>>, key: &str| map.as_ref()?.get(key).cloned();
        let used_until = noted(&object.metadata.annotations, REPLACED);
        let state = match used_until {
            Some(_) if object.data.pointer("/status/readyInstances").and_then(Value::as_u64).unwrap_or(0) == 0 => {
                "stopped, its volumes are kept".into()
            }
            _ => readiness(object).map(|readiness| readiness.detail()).unwrap_or_default(),
        };
        Restored {
            name: object.metadata.name.clone().unwrap_or_default(),
            from: noted(&object.metadata.labels, RESTORED_FROM),
            to: noted(&object.metadata.annotations, RESTORED_TO),
            used_until,
            state,
        }
    }
}

/// The Clusters of a stack beside the one that the app uses: those that were restored, and those whose place they took.
///
/// # Errors
/// The API server does not answer.
pub async fn list(kube: &Kube, namespace: &str, current: &str) -> Result<Vec<Restored>> {
    if !kube.knows("postgresql.cnpg.io/v1", "Cluster").await? {
        return Ok(Vec::new());
    }
    let any = database::reference(namespace, "");
    let api: Api<DynamicObject> = kube.api(&any).await?;
    let ours = ListParams::default().labels(OURS);
    let list = api.list(&ours).await.context("cannot list the restored Clusters")?;
    let others = list.items.into_iter().filter(|object| object.metadata.name.as_deref() != Some(current));
    Ok(others
        .map(|mut object| {
            object.types = Some(kube::core::TypeMeta { api_version: any.api_version.clone(), kind: any.kind.clone() });
            Restored::of(&object)
        })
        .collect())
}

/// Checks that the Cluster `name`, which the user gave, is among `all`.
///
/// # Errors
/// It is not.
pub fn named(all: &[Restored], name: &str) -> Result<()> {
    if all.iter().any(|one| one.name == name) {
        return Ok(());
    }
    Err(usage(format!("there is no restored Cluster {name}"))
        .remedy("stackctl restore --list shows those that there are; stackctl restore makes one")
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::{Part, kind};

    fn template() -> DynamicObject {
        let all = Part::Database.embedded().unwrap();
        all.into_iter().find(|object| kind(object) == "Cluster").unwrap()
    }

    fn wanted() -> RecoverySpec<'static> {
        RecoverySpec {
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
        let cluster = recovery_manifest(&template(), &wanted()).unwrap();
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
        assert_eq!(
            spec["inheritedMetadata"],
            json!({"labels": {"stackctl/restored": "user-app"}}),
            "nobody watches it"
        );
    }

    #[test]
    fn one_that_was_restored_is_restored_again_and_keeps_where_it_came_from() {
        let first = recovery_manifest(&template(), &wanted()).unwrap();
        let again = RecoverySpec { name: "user-db-r2", server: "user-db-r1", recovery: None, ..wanted() };
        let second = recovery_manifest(&first, &again).unwrap().data["spec"].clone();
        let recovery = json!({"recovery": {"source": "origin", "database": "app", "owner": "app"}});
        assert_eq!(second["bootstrap"], recovery);
        assert_eq!(second["externalClusters"][0]["plugin"]["parameters"]["serverName"], "user-db-r1");

        let mut database = template();
        keep_origin(&mut database, &first);
        assert_eq!(database.data["spec"]["bootstrap"], first.data["spec"]["bootstrap"]);
        assert_eq!(database.metadata.labels.as_ref().unwrap()[RESTORED_FROM], "user-db");
        assert_eq!(database.data["spec"]["inheritedMetadata"]["labels"]["stackctl/serves"], "user-app");
    }

    #[test]
    fn what_the_app_used_is_told_from_what_was_restored() {
        let mut object = recovery_manifest(&template(), &wanted()).unwrap();
        let restored = Restored::of(&object);
        assert_eq!((restored.from.as_deref(), restored.used_until.as_deref()), (Some("user-db"), None));
        assert_eq!(restored.to.as_deref(), Some("2026-11-24T11:30:00Z"));
        let until = "2026-11-24T12:00:00Z".to_owned();
        object.metadata.annotations.get_or_insert_default().insert(REPLACED.into(), until.clone());
        let replaced = Restored::of(&object);
        assert_eq!((replaced.used_until, replaced.state.as_str()), (Some(until), "stopped, its volumes are kept"));
    }

    #[test]
    fn one_that_is_only_looked_at_archives_nothing_and_waits_for_nobody() {
        let scratch = RecoverySpec { instances: 1, archives: false, recovery: None, ..wanted() };
        let spec = recovery_manifest(&template(), &scratch).unwrap().data["spec"].clone();
        assert!(spec.get("plugins").is_none() && spec["postgresql"].get("synchronous").is_none());
        assert!(spec["bootstrap"]["recovery"].get("recoveryTarget").is_none());
        assert_eq!(spec["instances"], 1);
    }
}
