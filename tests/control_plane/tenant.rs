//! A user who administers one namespace and nothing else: what is of the whole cluster is its administrators' to apply.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use futures::future::LocalBoxFuture;
use kube::{
    ResourceExt,
    api::{DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use stackctl::{
    assets::{Part, components},
    checks::{self, Status},
    cli::{Global, Optional},
    config::{Backup, BackupStore, Config, Options},
    context::Context,
    desired::scope::{self, Scope},
    kube::{Kube, ObjectRef, apply},
    phases::{Need, Phase, autoscaling::Autoscaling, claim::Claim, monitoring::Monitoring, operator::Operator, part},
    status::{self, Health},
    ui::{PhaseId, Reporter},
};

use crate::harness::{ControlPlane, create, options, release_manifest, words};

const NAMESPACE: &str = "user-app";
/// What is in the namespace, in the order of `up`.
const INSIDE: [(Part, PhaseId); 4] = [
    (Part::Backup, PhaseId::Backup),
    (Part::Database, PhaseId::Database),
    (Part::FailoverHelper, PhaseId::FailoverHelper),
    (Part::Web, PhaseId::Web),
];

fn context(plane: &ControlPlane, cache: &Path, token: &str) -> Context {
    let kubeconfig = Some(plane.kubeconfig(token, |_| {}));
    let global = Global { kubeconfig, context: Some("test".into()), ..Global::default() };
    let mut config = Config::load(&global, &Options::default()).unwrap();
    config.folders.cache = cache.to_owned();
    config.bundle = None;
    // Without a store in the cluster: its volume would wait for a controller to let it go.
    let (endpoint, bucket, secret) = ("https://s3.example.com".into(), "team".into(), "keys".into());
    let store = BackupStore::Bucket { endpoint, bucket, secret, region: None, ca: None };
    config.backup = Some(Backup { store, keep: "7d".into(), schedule: "0 0 3 * * *".into() });
    Context::new(config, Reporter::discard()).unwrap()
}

/// The release manifests, as a machine has them that has fetched them before.
fn fetched(cache: &Path) {
    let components = components().unwrap();
    fs::create_dir_all(cache.join("downloads")).unwrap();
    for (component, file) in [("cnpg-operator", "cnpg"), ("plugin-barman-cloud", "plugin-barman-cloud")] {
        let found = components.get(component).unwrap();
        let manifest = found.manifest.as_ref().unwrap();
        let name = manifest.url.rsplit('/').next().unwrap();
        let text = release_manifest(&format!("{file}-{}.yaml", found.version));
        fs::write(cache.join("downloads").join(format!("{}-{name}", &manifest.sha256[..12])), text).unwrap();
    }
}

/// What `up` would be stopped by before it changes anything.
async fn obstacle(cx: &Context) -> Option<String> {
    let checks = checks::all().filter(|check| check.before == checks::Before::Foreign);
    let findings = checks::run(cx, checks).await;
    let failure = checks::failure(&findings)?;
    Some(words(&failure.into()))
}

/// Kubernetes' own role `admin` is put together by a controller, which does not run here: its pieces are bound one by one.
async fn bind(kube: &Kube, roles: &[&str]) {
    for role in roles {
        create(
            kube,
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": role, "namespace": NAMESPACE},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "User", "name": "tenant", "apiGroup": "rbac.authorization.k8s.io"}],
            }),
        )
        .await;
    }
}

/// A definition that has the API serve the metrics of pods, as discovery tells it.
fn metrics() -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "pods.metrics.k8s.io", "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"}},
        "spec": {
            "group": "metrics.k8s.io", "scope": "Namespaced",
            "names": {"kind": "PodMetrics", "plural": "pods", "singular": "podmetrics", "listKind": "PodMetricsList"},
            "versions": [{"name": "v1beta1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    })
}

/// The objects of the cluster's administrators, with what changes when anybody writes to one.
async fn theirs(kube: &Kube, objects: &[ObjectRef]) -> BTreeMap<String, Option<String>> {
    let mut all = BTreeMap::new();
    for object in objects {
        let found = kube.get(object).await.unwrap();
        all.insert(object.to_string(), found.and_then(|found| found.resource_version()));
    }
    all
}

/// Lets go of what waits for the garbage collector, which does not run here, while `work` goes on.
async fn collected<T>(kube: &Kube, objects: &[ObjectRef], work: impl Future<Output = T>) -> T {
    let collect = async {
        loop {
            for object in objects {
                let Some(found) =
                    kube.get(object).await.unwrap().filter(|one| one.metadata.deletion_timestamp.is_some())
                else {
                    continue;
                };
                let patch = Patch::Merge(json!({"metadata": {"finalizers": null, "uid": found.metadata.uid}}));
                let _ = kube.api(object).await.unwrap().patch(&object.name, &PatchParams::default(), &patch).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        done = work => done,
        () = collect => unreachable!("it goes on"),
    }
}

/// Removes the stack, part by part, as `down` does.
async fn remove(admin: &Kube, cx: &Context) {
    let inventory = cx.inventory().await.unwrap();
    let entries = Part::ALL.into_iter().flat_map(|part| inventory.entries(part.name()));
    let inside = entries.map(|entry| entry.object).filter(|object| object.namespace.as_deref() == Some(NAMESPACE));
    let inside: Vec<ObjectRef> = inside.collect();
    collected(admin, &inside, async {
        for part in Part::ALL.into_iter().rev() {
            inventory.delete(part.name(), &|_| false, cx.deadline, &|_| {}).await.unwrap();
        }
    })
    .await;
}

fn nothing_first(_: &Context) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    Box::pin(async { Ok(()) })
}

async fn claim(cx: &Context) {
    let phase = Claim { first: nothing_first };
    assert_eq!(phase.needed(cx).await.unwrap(), Need::Run);
    phase.run(cx).await.unwrap();
    cx.unlock().await;
}

/// On a control plane of its own: it is about what is in the whole cluster.
#[tokio::test]
async fn who_administers_one_namespace_brings_the_stack_up_beside_what_the_administrators_have_applied() {
    let plane = ControlPlane::of_its_own();
    let cache = tempfile::tempdir().unwrap();
    fetched(cache.path());
    let admin = plane.connect().await;

    // Before anything is there: the words say what an administrator does.
    let refused = obstacle(&context(&plane, cache.path(), "tenant-token")).await.unwrap();
    for part in [
        "patch clusterroles.rbac.authorization.k8s.io",
        "and so install nothing of the whole cluster",
        "you may not patch deployments.apps in user-app",
        "the cluster lacks the databases of CloudNativePG",
        "stackctl --context test --namespace user-app render --scope cluster | kubectl apply --server-side -f -",
    ] {
        assert!(refused.contains(part), "{part}: {refused}");
    }

    // The administrators apply what is theirs. metrics-server's APIService would make this API server ask for it.
    let cx = context(&plane, cache.path(), "admin-token");
    let parts: Vec<Part> = Part::ALL.into_iter().filter(|part| *part != Part::Autoscaling).collect();
    let objects = scope::objects(&cx, &parts, Scope::Cluster).await.unwrap();
    assert!(objects.iter().all(|object| object.namespace().as_deref() != Some(NAMESPACE)));
    // Nobody answers for the operator here.
    let is_answered = |object: &DynamicObject| !object.types.as_ref().unwrap().kind.ends_with("WebhookConfiguration");
    let objects: Vec<_> = objects.into_iter().filter(is_answered).collect();
    apply(&admin, &objects, options(), &|_| {}).await.unwrap();
    create(&admin, metrics()).await;
    let pieces = ["system:aggregate-to-admin", "system:aggregate-to-edit", "system:aggregate-to-view"];
    bind(&admin, &pieces).await;
    let refused = obstacle(&context(&plane, cache.path(), "tenant-token")).await.unwrap();
    assert!(refused.contains("you may not") && refused.contains("patch clusters.postgresql.cnpg.io"), "{refused}");
    assert!(!refused.contains("the cluster lacks"), "{refused}");
    bind(&admin, &["stackctl-namespace-admin"]).await;

    let theirs_all: Vec<ObjectRef> = objects.iter().map(|object| ObjectRef::of(object).unwrap()).collect();
    let admin = plane.connect().await;
    let before = theirs(&admin, &theirs_all).await;
    assert!(before.values().all(Option::is_some), "{before:#?}");

    // The namespace's administrator applies the rest.
    let cx = context(&plane, cache.path(), "tenant-token");
    assert_eq!(obstacle(&cx).await, None);
    claim(&cx).await;
    let needed = Operator.needed(&cx).await.unwrap();
    assert!(matches!(&needed, Need::Skip(why) if why.contains("at which you may not look")), "{needed:?}");
    for (part, phase) in INSIDE {
        let applied = part::apply(&cx, phase, part).await.unwrap();
        assert!(applied.changed > 0, "{part}");
        assert!(applied.refs.iter().all(|one| one.namespace.as_deref() == Some(NAMESPACE)), "{:?}", applied.refs);
    }
    assert_eq!(Autoscaling.needed(&cx).await.unwrap(), Need::Skip("the cluster has its own".into()));
    assert!(matches!(Monitoring.needed(&cx).await.unwrap(), Need::Skip(_)));
    let report = status::read(&cx).await.unwrap();
    for part in ["cluster", "operator", "metrics", "monitoring"] {
        let line = report.parts.iter().find(|line| line.part == part).unwrap();
        assert_eq!(line.health, Health::Healthy, "{line:?}");
    }
    assert_eq!(theirs(&admin, &theirs_all).await, before, "what is the administrators' was changed");

    // A second time nothing is changed, and nothing pruned.
    let cx = context(&plane, cache.path(), "tenant-token");
    claim(&cx).await;
    for (part, phase) in INSIDE {
        assert_eq!(part::apply(&cx, phase, part).await.unwrap().changed, 0, "{part}");
    }

    // It goes, and takes nothing of theirs along.
    remove(&admin, &cx).await;
    assert_eq!(theirs(&admin, &theirs_all).await, before, "what is the administrators' was changed");
    let record = ObjectRef::namespaced("v1", "ConfigMap", NAMESPACE, stackctl::kube::INVENTORY);
    assert!(admin.get(&record).await.unwrap().is_none(), "the inventory is there still");
    let deployments = ObjectRef::namespaced("apps/v1", "Deployment", NAMESPACE, "");
    let left = admin.api(&deployments).await.unwrap().list(&ListParams::default()).await.unwrap();
    assert!(left.items.is_empty(), "{:?}", left.items);
}

/// A stack that an administrator has brought up is on record with all that it is of.
#[tokio::test]
async fn what_an_administrators_up_has_on_record_stays_when_the_namespaces_own_goes_on() {
    let plane = ControlPlane::of_its_own();
    let cache = tempfile::tempdir().unwrap();
    fetched(cache.path());
    let mut whole = context(&plane, cache.path(), "admin-token");
    whole.config.without = vec![Optional::Monitoring];
    claim(&whole).await;
    for (part, phase) in [(Part::Operator, PhaseId::Operator), (Part::Backup, PhaseId::Backup)] {
        part::apply(&whole, phase, part).await.unwrap();
    }
    let admin = plane.connect().await;
    let rights = scope::objects(&whole, &[Part::Base], Scope::Cluster).await.unwrap();
    let rights: Vec<_> = rights.into_iter().filter(|one| one.name_any() == "stackctl-namespace-admin").collect();
    apply(&admin, &rights, options(), &|_| {}).await.unwrap();
    create(&admin, metrics()).await;
    bind(&admin, &["system:aggregate-to-admin", "system:aggregate-to-edit", "system:aggregate-to-view"]).await;
    bind(&admin, &["stackctl-namespace-admin"]).await;

    let before = whole.inventory().await.unwrap().entries("operator");
    let outside: Vec<ObjectRef> = before.iter().map(|entry| entry.object.clone()).collect();
    let states = theirs(&admin, &outside).await;
    let cx = context(&plane, cache.path(), "tenant-token");
    assert_eq!(obstacle(&cx).await, None);
    claim(&cx).await;
    part::apply(&cx, PhaseId::Operator, Part::Operator).await.unwrap();
    part::apply(&cx, PhaseId::Backup, Part::Backup).await.unwrap();
    remove(&admin, &cx).await;
    assert_eq!(theirs(&admin, &outside).await, states);
    let now = context(&plane, cache.path(), "admin-token").inventory().await.unwrap().entries("operator");
    assert_eq!(now.len(), before.len(), "they are on record still");
    assert_eq!(checks_of(&cx, "permissions").await, Status::Ok);
}

async fn checks_of(cx: &Context, id: &str) -> Status {
    checks::run(cx, checks::all().filter(|check| check.id == id || check.id == "api"))
        .await
        .pop()
        .unwrap()
        .outcome
        .status
}
