//! Sizes on a real API server: what volumes cannot become is refused before anything is changed.

use futures::future::LocalBoxFuture;
use serde_json::{Value, json};
use stackctl::{
    cli::{Global, Size, StackArgs, UpArgs},
    config::{Config, Options},
    context::Context,
    desired,
    kube::{Kube, ObjectRef, apply},
    phases::{Phase, claim::Claim, monitoring::Monitoring},
    ui::Reporter,
};

use crate::{
    harness::{ControlPlane, create, options, words},
    manifests::install_operators_kinds,
};

const STACK: &str = "sized";

fn context(plane: &ControlPlane, size: Size, table: &str) -> Context {
    let kubeconfig = plane.kubeconfig("admin-token", |_| {});
    let file = kubeconfig.with_file_name(format!("sizes-{size:?}.toml"));
    std::fs::write(&file, table).unwrap();
    let global = Global {
        config: Some(file),
        kubeconfig: Some(kubeconfig),
        context: Some("test".into()),
        namespace: Some(STACK.into()),
        ..Global::default()
    };
    let arguments = UpArgs { stack: StackArgs { size: Some(size), ..StackArgs::default() }, ..UpArgs::default() };
    let config = Config::load(&global, &Options { up: Some(&arguments), ..Options::default() }).unwrap();
    Context::new(config, Reporter::discard()).unwrap()
}

fn nothing_first(_: &Context) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    Box::pin(async { Ok(()) })
}

/// What `up` says of this size before it changes anything.
async fn refusal(plane: &ControlPlane, size: Size, table: &str) -> Option<String> {
    let cx = context(plane, size, table);
    Claim { first: nothing_first }.needed(&cx).await.err().map(|error| words(&error))
}

async fn claim(kube: &Kube, namespace: &str, name: &str, role: Option<&str>, size: &str) {
    let labels = role.map(|role| json!({"cnpg.io/cluster": "user-db", "cnpg.io/pvcRole": role}));
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "rigid",
            "resources": {"requests": {"storage": size}},
        },
    });
    create(kube, claim).await;
}

async fn class(kube: &Kube, grows: bool) {
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "rigid"},
        "provisioner": "nobody", "allowVolumeExpansion": grows,
    });
    let class = serde_json::from_value(class).unwrap();
    apply(kube, &[class], options(), &|_| {}).await.unwrap();
}

/// On a control plane of its own: a class of volumes is the whole cluster's.
#[tokio::test]
async fn what_volumes_cannot_become_is_refused_and_names_the_claim() {
    let plane = ControlPlane::of_its_own();
    let kube = plane.connect().await;
    install_operators_kinds(&kube).await;
    for namespace in [STACK, "monitoring"] {
        let labels = json!({"app.kubernetes.io/managed-by": "stackctl"});
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
        create(&kube, namespace).await;
    }
    class(&kube, false).await;
    assert_eq!(refusal(&plane, Size::Medium, "").await, None, "there are no volumes yet");

    claim(&kube, STACK, "user-db-1", Some("PG_DATA"), "20Gi").await;
    let cluster =
        desired::embedded(&context(&plane, Size::Medium, ""), stackctl::assets::Part::Database).await.unwrap();
    let cluster: Vec<_> =
        cluster.into_iter().filter(|object| object.types.as_ref().unwrap().kind == "Cluster").collect();
    apply(&kube, &cluster, options(), &|_| {}).await.unwrap();
    assert_eq!(refusal(&plane, Size::Medium, "").await, None);
    let smaller = refusal(&plane, Size::Small, "").await.unwrap();
    assert!(
        smaller.contains("PersistentVolumeClaim sized/user-db-1 has 20Gi and cannot shrink to the 1Gi of --storage"),
        "{smaller}"
    );

    let larger = refusal(&plane, Size::Large, "").await.unwrap();
    assert!(larger.contains("user-db-1 cannot grow to the 100Gi") && larger.contains("StorageClass rigid"), "{larger}");
    class(&kube, true).await;
    assert_eq!(refusal(&plane, Size::Large, "").await, None);
    class(&kube, false).await;

    claim(&kube, STACK, "user-db-1-wal", Some("PG_WAL"), "5Gi").await;
    let gone = refusal(&plane, Size::Medium, "").await.unwrap();
    assert!(gone.contains("sized/user-db-1-wal has the WAL of an instance"), "{gone}");
    assert_eq!(refusal(&plane, Size::Medium, "[sizes]\nwal-storage = '5Gi'\n").await, None);
    claim(&kube, STACK, "backup-store", None, "90Gi").await;
    let store = refusal(&plane, Size::Medium, "[sizes]\nwal-storage = '5Gi'\n").await.unwrap();
    assert!(store.contains("sized/backup-store") && store.contains("--backup-storage"), "{store}");
}

/// Prometheus' volume: its claim's template cannot be changed, so that the claim itself is made to grow.
#[tokio::test]
async fn the_volume_of_prometheus_grows_and_is_never_made_smaller() {
    let plane = ControlPlane::of_its_own();
    let kube = plane.connect().await;
    for namespace in [STACK, "cnpg-system"] {
        create(&kube, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).await;
    }
    class(&kube, true).await;
    let desired = async |size: Size| desired::monitoring::objects(&context(&plane, size, "")).await.unwrap();
    let run = async |size: Size| Monitoring.run(&context(&plane, size, "")).await.unwrap();
    let kept = |objects: &[kube::api::DynamicObject]| -> String {
        let found = objects.iter().find(|object| object.types.as_ref().unwrap().kind == "StatefulSet").unwrap();
        let arguments: Vec<&str> = found.data["spec"]["template"]["spec"]["containers"][0]["args"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        arguments.into_iter().find(|one| one.contains("retention.size")).unwrap().to_owned()
    };
    assert_ne!(run(Size::Small).await, "unchanged");
    // What the StatefulSet's controller, which is not there, makes of the template.
    claim(&kube, "monitoring", "data-monitoring-prometheus-0", None, "1Gi").await;
    let bound = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}, "spec": {"volumeName": "v"}});
    let reference = ObjectRef::namespaced("v1", "PersistentVolumeClaim", "monitoring", "data-monitoring-prometheus-0");
    let api = kube.api(&reference).await.unwrap();
    let (merge, patch) = (kube::api::PatchParams::default(), kube::api::Patch::Merge(&bound));
    api.patch(&reference.name, &merge, &patch).await.unwrap();
    api.patch_status(&reference.name, &merge, &patch).await.unwrap();
    assert_eq!(run(Size::Small).await, "unchanged");

    assert_eq!(run(Size::Medium).await, "1 applied", "the StatefulSet, with what goes with a larger volume");
    let claim = kube.get(&reference).await.unwrap().unwrap();
    assert_eq!(claim.data["spec"]["resources"]["requests"]["storage"], "10Gi");
    assert_eq!(kept(&desired(Size::Medium).await), "--storage.tsdb.retention.size=6826MB");
    assert_eq!(run(Size::Medium).await, "unchanged");
    assert_eq!(run(Size::Small).await, "unchanged", "another stack's, of a smaller size");
}
