//! The desired objects of backups: what is taken of the plugin's own release manifest, and what follows from where the
//! backups go.

use anyhow::Context as _;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{bundle_has_image, embedded, labelled};
use crate::{
    assets::{self, Part, kind},
    backup::{
        CA_KEY, KEY_ID, PLUGIN_DEPLOYMENT, REGION, SECRET_KEY, STORE, Store,
        secrets::{self, Side},
    },
    config::{Backup, BackupStore},
    context::Context,
    error::Result,
    kube::ObjectRef,
};

/// The annotation of the plugin's pods that changes with the certificates, which they read when they start.
const CERTIFICATES: &str = "stackctl/certificates";
/// The components that a bundle must hold for backups; the store, which is the last, only if it is wanted.
const COMPONENTS: [&str; 3] = ["plugin-barman-cloud", "plugin-barman-cloud-sidecar", "versitygw"];

/// Kinds of the plugin's release manifest that are applied as they are. The rest of it asks for images of its test
/// builds and for cert-manager; `assets/backup/plugin.yaml` has it in its place.
const UPSTREAM: [&str; 6] =
    ["CustomResourceDefinition", "ServiceAccount", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"];

/// What of the plugin's release manifest is applied.
pub fn upstream(objects: Vec<DynamicObject>) -> Vec<DynamicObject> {
    objects.into_iter().filter(|object| UPSTREAM.contains(&kind(object))).collect()
}

/// Sets in `objects` of `part`, which are rendered already, where backups go; without any, what belongs to them is
/// taken out.
pub fn finish(part: Part, objects: &mut Vec<DynamicObject>, backup: Option<&Backup>, class: Option<&str>) {
    match (part, backup) {
        (Part::Backup, None) => objects.clear(),
        (Part::Backup, Some(backup)) => {
            if matches!(backup.store, BackupStore::Bucket { .. }) {
                objects.retain(|object| object.metadata.name.as_deref() != Some(STORE));
            }
            for object in objects {
                match kind(object) {
                    "ObjectStore" => set_store(&mut object.data["spec"], backup),
                    "PersistentVolumeClaim" => set_claim(&mut object.data["spec"], &backup.store, class),
                    _ => {}
                }
            }
        }
        (Part::Database, None) => {
            objects.retain(|object| kind(object) != "ScheduledBackup");
            for object in objects.iter_mut().filter(|object| kind(object) == "Cluster") {
                if let Some(spec) = object.data["spec"].as_object_mut() {
                    spec.remove("plugins");
                }
            }
        }
        (Part::Database, Some(backup)) => {
            for object in objects.iter_mut().filter(|object| kind(object) == "ScheduledBackup") {
                object.data["spec"]["schedule"] = json!(backup.schedule);
            }
        }
        _ => {}
    }
}

fn set_store(spec: &mut Value, backup: &Backup) {
    spec["retentionPolicy"] = json!(backup.keep);
    if let BackupStore::Bucket { endpoint, bucket, secret, region, ca } = &backup.store {
        let configuration = &mut spec["configuration"];
        configuration["destinationPath"] = json!(format!("s3://{bucket}"));
        configuration["endpointURL"] = json!(endpoint);
        configuration["s3Credentials"] = json!({
            "accessKeyId": {"name": secret, "key": KEY_ID},
            "secretAccessKey": {"name": secret, "key": SECRET_KEY},
        });
        // Over a network the bytes cost more than their compression.
        configuration["data"]["compression"] = json!("lz4");
        if let Some(ca) = ca {
            configuration["endpointCA"] = json!({"name": ca, "key": CA_KEY});
        }
        // And more goes wrong on the way. Checksums that are newer than many a store are sent to those that ask for them.
        let mut env = vec![
            json!({"name": "AWS_MAX_ATTEMPTS", "value": "3"}),
            json!({"name": "AWS_REQUEST_CHECKSUM_CALCULATION", "value": "when_required"}),
            json!({"name": "AWS_RESPONSE_CHECKSUM_VALIDATION", "value": "when_required"}),
        ];
        env.extend(region.as_ref().map(|region| json!({"name": REGION, "value": region})));
        spec["instanceSidecarConfiguration"]["env"] = json!(env);
    }
}

/// The claim of a store's volume that is `live`, as it is applied: with the size that it has.
///
/// # Errors
/// Only if an embedded file is broken.
pub fn claim(live: &DynamicObject, class: Option<&str>) -> Result<DynamicObject> {
    let mut objects = Part::Backup.embedded()?.into_iter();
    let mut claim =
        objects.find(|object| kind(object) == "PersistentVolumeClaim").context("no claim in the manifests")?;
    let size = live.data["spec"]["resources"]["requests"]["storage"].as_str().unwrap_or_default();
    set_claim(&mut claim.data["spec"], &BackupStore::InCluster { storage: size.into() }, class);
    claim.metadata.namespace.clone_from(&live.metadata.namespace);
    Ok(claim)
}

fn set_claim(spec: &mut Value, store: &BackupStore, class: Option<&str>) {
    if let BackupStore::InCluster { storage } = store {
        spec["resources"]["requests"]["storage"] = json!(storage);
    }
    if let Some(class) = class {
        spec["storageClassName"] = json!(class);
    }
}

/// The backups of this run; `None` when they are left out, as asked or for want of images.
pub fn wanted(cx: &Context) -> Option<&Backup> {
    let backup = cx.config.backup.as_ref()?;
    let needed = match backup.store {
        BackupStore::InCluster { .. } => &COMPONENTS[..],
        BackupStore::Bucket { .. } => &COMPONENTS[..2],
    };
    needed.iter().all(|component| bundle_has_image(cx, component)).then_some(backup)
}

/// The place where backups go, in words.
pub fn describe(backup: &Backup) -> String {
    match &backup.store {
        BackupStore::InCluster { .. } => "a store in the cluster".into(),
        BackupStore::Bucket { endpoint, bucket, .. } => format!("{bucket} at {endpoint}"),
    }
}

/// The store as the manifests have it; `None` without backups.
///
/// # Errors
/// Upstream's manifest can be neither found in the bundle nor fetched.
pub async fn wanted_store(cx: &Context) -> Result<Option<Store>> {
    let objects = embedded(cx, Part::Backup).await?;
    Ok(objects.iter().find(|object| kind(object) == "ObjectStore").map(Store::of))
}

/// The objects of backups that should be in this cluster, with their Secrets.
///
/// # Errors
/// The cluster does not answer, or this machine gives no random numbers.
pub async fn objects(cx: &Context) -> Result<Vec<DynamicObject>> {
    let mut objects = embedded(cx, Part::Backup).await?;
    let Some(backup) = wanted(cx) else { return Ok(objects) };
    let kube = cx.kube().await?;
    let operator = kube.operator().await?;
    // A plugin of somebody else's has its own.
    if !operator.plugin_is_foreign {
        let [server, client] = Side::ALL.map(|side| side.reference(&operator.namespace));
        let there = [kube.get(&server).await?, kube.get(&client).await?];
        add_certificates(cx, &mut objects, &there)?;
    }
    match backup.store {
        BackupStore::InCluster { .. } => {
            let namespace = &cx.config.stack.namespace;
            let there = kube.get(&ObjectRef::namespaced("v1", "Secret", namespace, STORE)).await?;
            let secret = secrets::credentials(namespace, there.as_ref())?;
            objects.extend(labelled(cx, Part::Backup, secret)?);
        }
        BackupStore::Bucket { .. } => objects.extend(former(cx).await?),
    }
    Ok(objects)
}

/// Adds the Secrets with the certificates of operator and plugin, in the order of [`Side::ALL`]; those that are `there` are
/// kept.
///
/// # Errors
/// This machine gives no random numbers.
pub fn add_certificates(
    cx: &Context,
    objects: &mut Vec<DynamicObject>,
    there: &[Option<DynamicObject>; 2],
) -> Result<()> {
    let mut digest = Sha256::new();
    for (side, there) in Side::ALL.into_iter().zip(there) {
        let secret = secrets::certificate(side, there.as_ref(), Timestamp::now())?;
        digest.update(secret.data["data"]["tls.crt"].as_str().unwrap_or_default());
        objects.extend(labelled(cx, Part::Backup, secret)?);
    }
    let digest = assets::short_digest(digest);
    let is_plugin = |object: &&mut DynamicObject| {
        kind(object) == "Deployment" && object.metadata.name.as_deref() == Some(PLUGIN_DEPLOYMENT)
    };
    for plugin in objects.iter_mut().filter(is_plugin) {
        plugin.data["spec"]["template"]["metadata"]["annotations"][CERTIFICATES] = digest.clone().into();
    }
    Ok(())
}

/// The volume and the keys of a store in the cluster that was used before a bucket, as they are: they hold the only
/// backups of the time before, so only `down` removes them.
///
/// # Errors
/// The cluster does not answer, or an embedded file is broken.
async fn former(cx: &Context) -> Result<Vec<DynamicObject>> {
    let (kube, stack) = (cx.kube().await?, &cx.config.stack);
    let mut objects = Vec::new();
    for entry in cx.inventory().await?.entries(Part::Backup.name()) {
        if !is_data(&entry.object) {
            continue;
        }
        let Some(live) = kube.get(&entry.object).await? else { continue };
        objects.push(match entry.object.kind.as_str() {
            "Secret" => secrets::credentials(&stack.namespace, Some(&live))?,
            _ => claim(&live, stack.storage_class.as_deref())?,
        });
    }
    let mut made = Vec::new();
    for object in objects {
        made.extend(labelled(cx, Part::Backup, object)?);
    }
    Ok(made)
}

/// Whether an object holds backups or opens them, so that `down --keep-data` leaves it: the store's volume and keys.
pub fn is_data(object: &ObjectRef) -> bool {
    object.name == STORE && matches!(object.kind.as_str(), "PersistentVolumeClaim" | "Secret")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::parse;

    fn backup(store: BackupStore) -> Backup {
        Backup { store, keep: "2w".into(), schedule: "0 30 1 * * *".into() }
    }

    fn in_cluster() -> Backup {
        backup(BackupStore::InCluster { storage: "9Gi".into() })
    }

    fn finished(part: Part, backup: Option<&Backup>) -> Vec<DynamicObject> {
        let mut objects = part.embedded().unwrap();
        finish(part, &mut objects, backup, Some("fast"));
        objects
    }

    fn spec<'a>(objects: &'a [DynamicObject], wanted: &str) -> &'a Value {
        &objects.iter().find(|object| kind(object) == wanted).unwrap_or_else(|| panic!("no {wanted}")).data["spec"]
    }

    #[test]
    fn a_store_in_the_cluster_has_its_volume_and_its_retention() {
        let objects = finished(Part::Backup, Some(&in_cluster()));
        let claim = spec(&objects, "PersistentVolumeClaim");
        assert_eq!(claim["resources"]["requests"]["storage"], "9Gi");
        assert_eq!(claim["storageClassName"], "fast");
        assert_eq!(spec(&objects, "ObjectStore")["retentionPolicy"], "2w");
        let configuration = &spec(&objects, "ObjectStore")["configuration"];
        assert_eq!(configuration["endpointURL"], "http://backup-store:7070");
        assert!(configuration["data"].get("compression").is_none(), "{configuration}");
        let database = finished(Part::Database, Some(&in_cluster()));
        assert_eq!(spec(&database, "ScheduledBackup")["schedule"], "0 30 1 * * *");
        assert_eq!(spec(&database, "Cluster")["plugins"][0]["parameters"]["barmanObjectName"], "user-db");
    }

    #[test]
    fn with_a_bucket_of_the_users_own_no_store_is_installed() {
        let own = backup(BackupStore::Bucket {
            endpoint: "https://s3.example.com".into(),
            bucket: "b/team".into(),
            secret: "mine".into(),
            region: Some("eu-west-3".into()),
            ca: Some("private-ca".into()),
        });
        let objects = finished(Part::Backup, Some(&own));
        let kinds: Vec<_> = objects.iter().map(kind).collect();
        assert_eq!(
            kinds,
            ["ObjectStore", "Service", "Deployment", "PodDisruptionBudget"],
            "the store itself, and the plugin"
        );
        let configuration = &spec(&objects, "ObjectStore")["configuration"];
        assert_eq!(configuration["destinationPath"], "s3://b/team");
        assert_eq!(configuration["endpointURL"], "https://s3.example.com");
        assert_eq!(configuration["data"]["compression"], "lz4");
        let sidecar = &spec(&objects, "ObjectStore")["instanceSidecarConfiguration"];
        assert_eq!(sidecar["env"][0], json!({"name": "AWS_MAX_ATTEMPTS", "value": "3"}));
        assert_eq!(sidecar["env"][3], json!({"name": "AWS_DEFAULT_REGION", "value": "eu-west-3"}));
        assert_eq!(configuration["endpointCA"], json!({"name": "private-ca", "key": "ca.crt"}));
        let read = Store::of(objects.iter().find(|object| kind(object) == "ObjectStore").unwrap());
        assert_eq!((read.region.as_deref(), read.ca.as_deref()), (Some("eu-west-3"), Some("private-ca")));
        assert_eq!(configuration["s3Credentials"]["secretAccessKey"], json!({"name": "mine", "key": SECRET_KEY}));
    }

    #[test]
    fn a_volume_that_is_kept_is_applied_with_its_own_size() {
        let mut objects = finished(Part::Backup, Some(&in_cluster())).into_iter();
        let mut live = objects.find(|object| kind(object) == "PersistentVolumeClaim").unwrap();
        live.metadata.namespace = Some("team-a".into());
        live.data["spec"]["volumeName"] = json!("pvc-1");
        let claim = claim(&live, Some("fast")).unwrap();
        assert_eq!(claim.metadata.namespace.as_deref(), Some("team-a"));
        let size = json!({"requests": {"storage": "9Gi"}});
        let wanted = json!({"accessModes": ["ReadWriteOnce"], "resources": size, "storageClassName": "fast"});
        assert_eq!(claim.data["spec"], wanted, "and nothing that the cluster filled in");
    }

    #[test]
    fn without_backups_the_database_names_no_plugin() {
        assert!(finished(Part::Backup, None).is_empty());
        let database = finished(Part::Database, None);
        assert!(database.iter().all(|object| kind(object) != "ScheduledBackup"));
        assert!(spec(&database, "Cluster").get("plugins").is_none());
    }

    #[test]
    fn nothing_of_the_release_manifest_that_names_images_is_applied() {
        let text = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: plugin-barman-cloud, namespace: cnpg-system}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: barman-cloud, namespace: cnpg-system}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: barman-cloud-server, namespace: cnpg-system}
---
apiVersion: v1
kind: Secret
metadata: {name: plugin-barman-cloud-8tfddg42gf, namespace: cnpg-system}
";
        let kept = upstream(parse(text, "x").unwrap());
        assert_eq!(kept.iter().map(kind).collect::<Vec<_>>(), ["ServiceAccount"]);
    }
}
