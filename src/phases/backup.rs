//! Backups: the plugin that the database's Cluster names, and the store. They come before the database, which the
//! operator leaves alone while it names a plugin that does not answer; the store itself need not be ready by then.

use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::core::DynamicObject;
use sha2::{Digest as _, Sha256};

use super::{Need, Phase, bucket, common};
use crate::{
    assets::{self, Part},
    backup::{
        PLUGIN_DEPLOYMENT, PLUGIN_NAMESPACE, STORE,
        secrets::{self, Side},
    },
    config::{Backup, BackupStore},
    context::Context,
    database,
    error::Result,
    kube::ObjectRef,
    ui::Event,
};

pub(super) const ID: &str = "backup";
/// The operator's phase runs beside this one and makes the namespace first of all.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The pods are replaced when the certificates are: they read them when they start.
const CERTIFICATES: &str = "stackctl/certificates";
/// What a bundle must hold for backups; the store only if it is wanted.
const COMPONENTS: [&str; 3] = ["plugin-barman-cloud", "plugin-barman-cloud-sidecar", "versitygw"];

/// Installs the plugin and the store.
pub struct Backups;

impl Phase for Backups {
    fn id(&self) -> &'static str {
        ID
    }

    fn title(&self) -> String {
        "Backups".into()
    }

    fn after(&self) -> &'static [&'static str] {
        &["claim"]
    }

    fn needed<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Need>> {
        let asked = cx.config.backup.is_some();
        Box::pin(async move { Ok(if asked { Need::Run } else { Need::Skip("as asked".into()) }) })
    }

    fn run<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<String>> {
        Box::pin(async {
            let Some(backup) = wanted(cx) else {
                let text = "backups are left out: the bundle does not hold what they need".into();
                cx.reporter.send(Event::Warning { phase: ID.into(), text });
                return Ok("left out".into());
            };
            bucket::check_secret(cx, backup).await?;
            let moved = bucket::is_new(cx).await?;
            namespace(cx).await?;
            let mut applied = common::apply(cx, ID, Part::Backup).await?;
            applied.refs.retain(|object| object.name == PLUGIN_DEPLOYMENT);
            applied.ready.retain(|(object, _)| object.name == PLUGIN_DEPLOYMENT);
            common::wait(cx, ID, &applied).await?;
            if moved {
                bucket::begin_anew(cx).await?;
            }
            Ok(format!("{}, {}", describe(backup), common::changes(applied.changed)))
        })
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async {
            let mut steps = common::plan(cx, Part::Backup).await?;
            let wait = steps.pop();
            if let Some(backup) = wanted(cx).filter(|backup| matches!(backup.store, BackupStore::Bucket { .. })) {
                steps.insert(0, format!("ask whether {} can be used, if it is new to the stack", describe(backup)));
            }
            for side in Side::ALL {
                steps.push(format!("make {}, unless it is there", side.reference()));
            }
            if wanted(cx).is_some_and(|backup| matches!(backup.store, BackupStore::InCluster { .. })) {
                let namespace = &cx.config.stack.namespace;
                steps.push(format!("make Secret {namespace}/{STORE} with credentials, unless it is there"));
            }
            steps.extend(wait);
            Ok(steps)
        })
    }
}

/// Where backups go in this run; `None` when they are left out, as asked or for want of images.
pub fn wanted(cx: &Context) -> Option<&Backup> {
    let backup = cx.config.backup.as_ref()?;
    let needed = match backup.store {
        BackupStore::InCluster { .. } => &COMPONENTS[..],
        BackupStore::Bucket { .. } => &COMPONENTS[..2],
    };
    needed.iter().all(|component| common::holds(cx, component)).then_some(backup)
}

/// Where backups go, in words.
pub fn describe(backup: &Backup) -> String {
    match &backup.store {
        BackupStore::InCluster { .. } => "a store in the cluster".into(),
        BackupStore::Bucket { endpoint, bucket, .. } => format!("{bucket} at {endpoint}"),
    }
}

/// Whether the database archives its log; `None` before it has tried.
///
/// # Errors
/// The cluster does not answer.
pub async fn archives(cx: &Context) -> Result<Option<bool>> {
    let cluster = database::reference(&cx.config.stack.namespace, &cx.database().await?);
    let cluster = cx.kube().await?.get(&cluster).await?;
    let conditions = cluster.as_ref().and_then(|found| found.data.pointer("/status/conditions")?.as_array());
    let archiving = conditions.and_then(|all| all.iter().find(|one| one["type"] == "ContinuousArchiving"));
    Ok(archiving.map(|archiving| archiving["status"] == "True"))
}

/// The objects that `up` would apply to this cluster, with the Secrets.
///
/// # Errors
/// The cluster does not answer, or this machine gives no random numbers.
pub async fn objects(cx: &Context) -> Result<Vec<DynamicObject>> {
    let mut objects = common::objects(cx, Part::Backup).await?;
    let Some(backup) = wanted(cx) else { return Ok(objects) };
    let kube = cx.kube().await?;
    let mut digest = Sha256::new();
    for side in Side::ALL {
        let there = kube.get(&side.reference()).await?;
        let secret = secrets::certificate(side, there.as_ref(), Timestamp::now())?;
        digest.update(secret.data["data"]["tls.crt"].as_str().unwrap_or_default());
        objects.extend(common::labelled(cx, Part::Backup, secret)?);
    }
    let digest = assets::short_digest(digest);
    for plugin in objects.iter_mut().filter(|object| assets::kind(object) == "Deployment") {
        plugin.data["spec"]["template"]["metadata"]["annotations"][CERTIFICATES] = digest.clone().into();
    }
    match backup.store {
        BackupStore::InCluster { .. } => {
            let namespace = &cx.config.stack.namespace;
            let there = kube.get(&ObjectRef::namespaced("v1", "Secret", namespace, STORE)).await?;
            let secret = secrets::credentials(namespace, there.as_ref())?;
            objects.extend(common::labelled(cx, Part::Backup, secret)?);
        }
        BackupStore::Bucket { .. } => objects.extend(bucket::former(cx).await?),
    }
    Ok(objects)
}

/// Whether `down --keep-data` leaves it: what the store has, and what opens it.
pub fn is_data(object: &ObjectRef) -> bool {
    object.name == STORE && matches!(object.kind.as_str(), "PersistentVolumeClaim" | "Secret")
}

/// Waits for the operator's namespace.
async fn namespace(cx: &Context) -> Result<()> {
    let namespace = ObjectRef::cluster("v1", "Namespace", PLUGIN_NAMESPACE);
    let appears = async {
        while cx.kube().await?.get(&namespace).await?.is_none() {
            cx.doing(ID, "waiting for the operator's namespace");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    };
    cx.until_deadline("the operator's namespace", appears).await
}
