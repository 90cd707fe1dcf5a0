use std::{fs, path::Path, time::Duration};

use serde_json::json;
use stackctl::{
    assets::{Part, components},
    backup::Store,
    cli::Global,
    config::{Backup, BackupStore, Config, Options},
    context::Context,
    desired,
    error::{Kind, kind_of},
    kube::{Change, Kube, ObjectRef, apply},
    phases::{Phase, backup::Backups, part},
    ui::PhaseId,
    ui::Reporter,
};

use crate::harness::{ControlPlane, create, options, release_manifest};

const NAMESPACE: &str = "user-app";

/// A command with backups to `store`, as it would find the plugin's manifest on a machine that has fetched it before.
fn context(plane: &ControlPlane, cache: &Path, store: BackupStore, timeout: Duration) -> Context {
    let kubeconfig = Some(plane.kubeconfig("admin-token", |_| {}));
    let global = Global { kubeconfig, context: Some("test".into()), ..Global::default() };
    let mut config = Config::load(&global, &Options::default()).unwrap();
    config.backup = Some(Backup { store, keep: "7d".into(), schedule: "0 0 3 * * *".into() });
    config.folders.cache = cache.to_owned();
    config.bundle = None;
    config.timeout = timeout;
    Context::new(config, Reporter::discard()).unwrap()
}

fn fetched(cache: &Path) {
    let components = components().unwrap();
    let plugin = components.get("plugin-barman-cloud").unwrap();
    let digest = &plugin.manifest.as_ref().unwrap().sha256;
    let text = release_manifest(&format!("plugin-barman-cloud-{}.yaml", plugin.version));
    fs::create_dir_all(cache.join("downloads")).unwrap();
    fs::write(cache.join("downloads").join(format!("{}-manifest.yaml", &digest[..12])), text).unwrap();
}

async fn place(kube: &Kube) -> String {
    Store::read(kube, NAMESPACE).await.unwrap().unwrap().describe()
}

/// On a control plane of its own: the plugin's namespace has one name.
#[tokio::test]
async fn a_bucket_is_asked_first_and_what_the_former_store_has_is_kept() {
    let plane = ControlPlane::of_its_own();
    let kube = plane.connect().await;
    for namespace in [NAMESPACE, "cnpg-system"] {
        create(&kube, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).await;
    }
    let cache = tempfile::tempdir().unwrap();
    fetched(cache.path());
    let minute = Duration::from_secs(60);
    let in_cluster = || BackupStore::InCluster { storage: "5Gi".into() };
    let bucket = || BackupStore::Bucket {
        endpoint: "http://store.elsewhere.svc:7070".into(),
        bucket: "team/db".into(),
        region: None,
        ca: None,
        secret: "keys".into(),
    };
    let first = context(&plane, cache.path(), in_cluster(), minute);
    part::apply(&first, PhaseId::Backup, Part::Backup).await.unwrap();
    // Another connection: this one has asked for the kinds before there was an ObjectStore.
    let kube = plane.connect().await;

    // Nothing answers here: no pod ever runs.
    let keys = json!({"ACCESS_KEY_ID": "mine", "SECRET_ACCESS_KEY": "only-for-this-test"});
    let metadata = json!({"name": "keys", "namespace": NAMESPACE});
    create(&kube, json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": keys})).await;
    let short = context(&plane, cache.path(), bucket(), Duration::from_secs(3));
    let error = Backups.run(&short).await.unwrap_err();
    assert!(kind_of(&error) == Kind::Timeout && error.to_string().contains("asks the store"), "{error:#}");
    assert_eq!(place(&kube).await, "s3://backups/ at http://backup-store:7070", "it was changed");

    // What follows when it has answered: the volume and the keys are applied as they are, and the rest of it leaves.
    let moved = context(&plane, cache.path(), bucket(), minute);
    let objects = desired::desired(&moved, Part::Backup).await.unwrap();
    let changes = apply(&kube, &objects, options(), &|_| {}).await.unwrap();
    let kept: Vec<_> = changes.iter().filter(|(object, _)| object.name == "backup-store").collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    let unchanged =
        |kind: &str| kept.iter().any(|(object, change)| object.kind == kind && *change == Change::Unchanged);
    assert!(unchanged("PersistentVolumeClaim") && unchanged("Secret"), "{kept:?}");
    assert_eq!(place(&kube).await, "s3://team/db at http://store.elsewhere.svc:7070");
    let wanted: Vec<ObjectRef> = changes.into_iter().map(|(object, _)| object).collect();
    let leaving = moved.inventory().await.unwrap().leftovers(Part::Backup.name(), &wanted);
    let mut leaving: Vec<&str> = leaving.iter().map(|object| object.kind.as_str()).collect();
    leaving.sort_unstable();
    assert_eq!(leaving, ["NetworkPolicy", "Service", "StatefulSet"]);
}
