use kube::api::{DynamicObject, PostParams};
use serde_json::json;
use stackctl::{
    assets::{Part, components, parse},
    cli::{Global, Size, StackArgs},
    config::{Backup, BackupStore, Config, Options, Stack},
    desired::{
        backup,
        monitoring::grafana_login,
        render::{Images, render},
    },
    kube::{ApplyOptions, Change, Kube, ObjectRef, apply},
};

use crate::harness::{control_plane, options, sandbox};

/// A component's release manifest, of the version that is pinned.
fn release_manifest(component: &str, file: &str) -> String {
    let components = components().unwrap();
    let version = &components.get(component).unwrap().version;
    crate::harness::release_manifest(&format!("{file}-{version}.yaml"))
}

fn stack(namespace: &str) -> Stack {
    sized(namespace, Size::Small)
}

fn sized(namespace: &str, size: Size) -> Stack {
    let arguments = StackArgs { size: Some(size), storage_class: Some("any".into()), ..StackArgs::default() };
    let global = Global { namespace: Some(namespace.into()), ..Global::default() };
    Config::load(&global, &Options { stack: Some(&arguments), ..Options::default() }).unwrap().stack
}

fn objects(part: Part, namespace: &str) -> Vec<DynamicObject> {
    objects_of(part, &stack(namespace))
}

fn objects_of(part: Part, stack: &Stack) -> Vec<DynamicObject> {
    let images = Images::new(&components().unwrap(), |_| None, "user-app:0123456789ab".into());
    let mut objects = Vec::new();
    match part {
        Part::Operator => objects.extend(parse(&release_manifest("cnpg-operator", "cnpg"), "operator").unwrap()),
        Part::Backup => {
            let text = release_manifest("plugin-barman-cloud", "plugin-barman-cloud");
            objects.extend(backup::upstream(parse(&text, "plugin").unwrap()));
        }
        _ => {}
    }
    objects.extend(part.embedded().unwrap());
    let mut objects = render(part, objects, stack, &images);
    let store = BackupStore::InCluster { storage: "5Gi".into() };
    let settings = Backup { store, keep: "7d".into(), schedule: "0 0 3 * * *".into() };
    backup::finish(part, &mut objects, Some(&settings), stack.storage_class.as_deref());
    objects
}

/// Makes the kinds of CloudNativePG and its plugin known, once for all tests.
pub async fn operators_kinds(kube: &Kube) {
    static DONE: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    DONE.get_or_init(|| install_operators_kinds(kube)).await;
}

/// Makes the kinds of CloudNativePG and its plugin known to a control plane.
pub async fn install_operators_kinds(kube: &Kube) {
    let all = [Part::Operator, Part::Backup].into_iter().flat_map(|part| objects(part, "default"));
    let basis: Vec<_> = all.filter(is_basis).collect();
    apply(kube, &basis, options(), &|_| {}).await.unwrap();
}

fn is_basis(object: &DynamicObject) -> bool {
    let kind = object.types.as_ref().map_or("", |types| types.kind.as_str());
    matches!(kind, "Namespace" | "CustomResourceDefinition" | "PriorityClass")
}

/// Whether the namespace's Pod Security level lets the pods of a Deployment or StatefulSet in.
async fn pods_are_admitted(kube: &Kube, object: &DynamicObject) {
    let mut template = object.data.pointer("/spec/template").cloned().unwrap();
    for claim in
        object.data.pointer("/spec/volumeClaimTemplates").and_then(|claims| claims.as_array()).into_iter().flatten()
    {
        let volumes = template.pointer_mut("/spec/volumes").and_then(|volumes| volumes.as_array_mut()).unwrap();
        volumes.push(json!({"name": claim["metadata"]["name"], "emptyDir": {}}));
    }
    let namespace = object.metadata.namespace.clone().unwrap();
    let name = object.metadata.name.clone().unwrap();
    let pod: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": template["metadata"]["labels"]},
        "spec": template["spec"],
    }))
    .unwrap();
    let api = kube.api(&ObjectRef::namespaced("v1", "Pod", &namespace, &name)).await.unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    api.create(&dry, &pod).await.unwrap_or_else(|error| panic!("a pod of {namespace}/{name}: {error}"));
}

/// Every manifest passes the server's strict validation: no unknown and no doubled field, every value valid,
/// those of CloudNativePG by its own schemas.
#[tokio::test]
async fn every_manifest_is_valid() {
    let kube = control_plane().connect().await;
    let all = Part::ALL.into_iter().flat_map(|part| objects(part, "manifests-all"));
    // Kinds of the Prometheus operator, whose definitions are at hand nowhere.
    let all = all.filter(|object| !object.types.as_ref().is_some_and(|types| types.api_version.contains("coreos")));
    // In a namespace or of a kind that does not exist, the server would not look at an object at all.
    let (basis, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(is_basis);
    operators_kinds(&kube).await;
    apply(&kube, &basis, options(), &|_| {}).await.unwrap();

    let dry = ApplyOptions { dry_run: true, ..options() };
    let changes = apply(&kube, &rest, dry, &|_| {}).await.unwrap();
    assert_eq!(changes.len(), rest.len());
    // Another test installs monitoring, whose namespace has one name.
    let monitoring = |object: &ObjectRef| object.namespace.as_deref() == Some("monitoring");
    let new = |(object, change): &(ObjectRef, Change)| *change == Change::Created || monitoring(object);
    assert!(changes.iter().all(new), "{changes:?}");
    for kind in [
        "Cluster",
        "Deployment",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "Service",
        "APIService",
        "ObjectStore",
        "ScheduledBackup",
        "StatefulSet",
        "NetworkPolicy",
    ] {
        assert!(changes.iter().any(|(object, _)| object.kind == kind), "no {kind} among {changes:?}");
    }
    let has_pods = |object: &&DynamicObject| {
        object.types.as_ref().is_some_and(|types| ["Deployment", "StatefulSet"].contains(&types.kind.as_str()))
    };
    for object in rest.iter().filter(has_pods) {
        pods_are_admitted(&kube, object).await;
    }
}

/// What a size sets is valid by the kinds' own schemas, and applied again it changes nothing.
#[tokio::test]
async fn every_size_is_valid() {
    let kube = control_plane().connect().await;
    operators_kinds(&kube).await;
    for (namespace, size) in [("sizes-medium", Size::Medium), ("sizes-large", Size::Large)] {
        apply(&kube, &objects_of(Part::Base, &sized(namespace, size)), options(), &|_| {}).await.unwrap();
        for part in [Part::Database, Part::Web] {
            let objects = objects_of(part, &sized(namespace, size));
            apply(&kube, &objects, options(), &|_| {}).await.unwrap();
            let again = apply(&kube, &objects, options(), &|_| {}).await.unwrap();
            assert!(again.iter().all(|(_, change)| *change == Change::Unchanged), "{size:?}: {again:?}");
        }
    }
}

/// A stack that was brought up before there were sizes is not changed by the smallest.
#[tokio::test]
async fn small_changes_nothing_of_a_stack_that_is_there() {
    let kube = control_plane().connect().await;
    operators_kinds(&kube).await;
    let namespace = "sizes-small";
    apply(&kube, &objects(Part::Base, namespace), options(), &|_| {}).await.unwrap();
    for part in [Part::Database, Part::Web] {
        let mut before = part.embedded().unwrap();
        let named = |name: &mut Option<String>| *name = Some(namespace.to_owned());
        before.iter_mut().for_each(|object| named(&mut object.metadata.namespace));
        apply(&kube, &before, options(), &|_| {}).await.unwrap();
        for (old, new) in before.iter().zip(objects(part, namespace)) {
            let live = kube.get(&ObjectRef::of(old).unwrap()).await.unwrap().unwrap();
            let mut new = new;
            // What a test has no registry and no class for.
            blank(&mut new.data);
            let mut live = live.data["spec"].clone();
            blank(&mut live);
            assert!(
                holds(&live, &new.data["spec"]),
                "{}: {live} and {}",
                ObjectRef::of(old).unwrap(),
                new.data["spec"]
            );
        }
    }
}

/// Removes the names of images and of classes.
fn blank(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            ["image", "imageName", "storageClass", "priorityClassName"].iter().for_each(|key| drop(map.remove(*key)));
            map.values_mut().for_each(blank);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(blank),
        _ => {}
    }
}

/// Whether `whole` has everything that `part` has.
fn holds(whole: &serde_json::Value, part: &serde_json::Value) -> bool {
    match (whole, part) {
        (serde_json::Value::Object(whole), serde_json::Value::Object(part)) => {
            part.iter().all(|(key, value)| whole.get(key).is_some_and(|whole| holds(whole, value)))
        }
        (serde_json::Value::Array(whole), serde_json::Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| holds(whole, part))
        }
        _ => whole == part,
    }
}

/// The level that the app's pods meet is enforced: a pod that wants more is refused.
#[tokio::test]
async fn the_namespace_refuses_pods_that_are_not_restricted() {
    let kube = control_plane().connect().await;
    apply(&kube, &objects(Part::Base, "manifests-refused"), options(), &|_| {}).await.unwrap();
    let pod: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root", "namespace": "manifests-refused"},
        "spec": {"containers": [{"name": "a", "image": "a:1"}]},
    }))
    .unwrap();
    let api = kube.api(&ObjectRef::namespaced("v1", "Pod", "manifests-refused", "root")).await.unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let error = api.create(&dry, &pod).await.unwrap_err().to_string();
    assert!(error.contains("violates PodSecurity \"restricted"), "{error}");
}

/// A second apply of everything that is only configuration changes nothing and no resource version.
#[tokio::test]
async fn applying_app_and_monitoring_twice_changes_nothing() {
    let kube = control_plane().connect().await;
    apply(&kube, &objects(Part::Base, "manifests-twice"), options(), &|_| {}).await.unwrap();
    let mut web = objects(Part::Web, "manifests-twice");
    web.extend(objects(Part::Monitoring, "manifests-twice").into_iter().filter(|object| {
        let namespace = object.metadata.namespace.as_deref();
        // What is of the operators' is tried on a real cluster.
        namespace == Some("monitoring") || is_basis(object)
    }));
    web.push(grafana_login(None, || Ok("a password".into())).unwrap());
    apply(&kube, &web, options(), &|_| {}).await.unwrap();
    let versions = async || -> Vec<Option<String>> {
        let mut versions = Vec::new();
        for object in &web {
            let live = kube.get(&ObjectRef::of(object).unwrap()).await.unwrap().unwrap();
            versions.push(live.metadata.resource_version);
        }
        versions
    };
    let before = versions().await;
    let requests = kube.requests();
    let changes = apply(&kube, &web, options(), &|_| {}).await.unwrap();
    assert!(changes.iter().all(|(_, change)| *change == Change::Unchanged), "{changes:?}");
    assert!(kube.requests() - requests <= 2 * web.len() as u64, "{} requests", kube.requests() - requests);
    assert_eq!(versions().await, before);
}

/// The volume of a store that a bucket has taken the place of is applied with what is known of it then: its own size.
#[tokio::test]
async fn a_volume_of_backups_is_left_as_it_is() {
    let sandbox = sandbox("backup-volume").await;
    let mut first = objects(Part::Backup, &sandbox.namespace);
    first.retain(|object| object.types.as_ref().is_some_and(|types| types.kind == "PersistentVolumeClaim"));
    assert_eq!(sandbox.apply(&first).await.unwrap(), [Change::Created]);
    let live = sandbox.get(&sandbox.reference("v1", "PersistentVolumeClaim", "backup-store")).await.unwrap();
    let stack = stack(&sandbox.namespace);
    let kept = backup::claim(&live, stack.storage_class.as_deref()).unwrap();
    let kept = render(Part::Backup, vec![kept], &stack, &Images::default());
    assert_eq!(sandbox.apply(&kept).await.unwrap(), [Change::Unchanged]);
}
