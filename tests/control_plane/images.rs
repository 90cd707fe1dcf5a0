//! Where images come from, with upstream's own manifests, and the Secret by which they may be pulled.

use std::{fs, path::Path};

use kube::api::{DeleteParams, DynamicObject};
use serde_json::{Value, json};
use stackctl::{
    assets::{Part, components},
    cli::Global,
    config::{Config, ImageMirror, Options},
    context::Context,
    desired,
    kube::ObjectRef,
    phases::part,
    ui::{PhaseId, Reporter},
};

use crate::harness::{ControlPlane, control_plane, create, release_manifest, words};

/// A command as it would find upstream's manifests on a machine that has fetched them before.
fn context(plane: &ControlPlane, cache: &Path, change: impl FnOnce(&mut Config)) -> Context {
    for (component, file) in [("cnpg-operator", "cnpg"), ("plugin-barman-cloud", "plugin-barman-cloud")] {
        let component = components().unwrap().get(component).unwrap().clone();
        let manifest = component.manifest.as_ref().unwrap();
        let text = release_manifest(&format!("{file}-{}.yaml", component.version));
        let name = manifest.url.rsplit('/').next().unwrap();
        fs::create_dir_all(cache.join("downloads")).unwrap();
        fs::write(cache.join("downloads").join(format!("{}-{name}", &manifest.sha256[..12])), text).unwrap();
    }
    let kubeconfig = Some(plane.kubeconfig("admin-token", |_| {}));
    let global = Global { kubeconfig, context: Some("test".into()), ..Global::default() };
    let mut config = Config::load(&global, &Options::default()).unwrap();
    config.folders.cache = cache.to_owned();
    config.bundle = None;
    change(&mut config);
    Context::new(config, Reporter::discard()).unwrap()
}

/// Every image that an object names: of containers, of the operand, and of pods that are made by operators.
fn images(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let named = ["image", "imageName"].iter().filter_map(|key| map.get(*key)?.as_str());
            found.extend(named.map(str::to_owned));
            if map.get("name").and_then(Value::as_str).is_some_and(|name| name.contains("IMAGE")) {
                found.extend(map.get("value").and_then(Value::as_str).map(str::to_owned));
            }
            map.values().for_each(|value| images(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| images(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_image_of_upstreams_manifests_comes_from_the_mirror() {
    let cache = tempfile::tempdir().unwrap();
    let cx = context(control_plane(), cache.path(), |config| {
        config.image_mirror = Some(ImageMirror::at("mirror.example.com/all"));
    });
    let mut found = Vec::new();
    for part in Part::ALL {
        for object in desired::embedded(&cx, part).await.unwrap() {
            images(&object.data, &mut found);
        }
    }
    for image in &found {
        assert!(image.starts_with("mirror.example.com/all/"), "{image}");
    }
    for (image, times) in [("cloudnative-pg/cloudnative-pg:", 2), ("cloudnative-pg/plugin-barman-cloud-sidecar:", 1)] {
        let named = found.iter().filter(|found| found.contains(image)).count();
        assert_eq!(named, times, "{image} in {found:?}");
    }
}

fn named<'a>(objects: &'a [DynamicObject], kind: &str) -> Vec<&'a DynamicObject> {
    objects.iter().filter(|object| object.types.as_ref().is_some_and(|types| types.kind == kind)).collect()
}

/// On a control plane of its own: the namespaces of what stacks share have one name.
#[tokio::test]
async fn pods_of_other_namespaces_get_a_copy_of_the_pull_secret() {
    let plane = ControlPlane::of_its_own();
    let kube = plane.connect().await;
    let cache = tempfile::tempdir().unwrap();
    let with_secret = || context(&plane, cache.path(), |config| config.stack.pull_secret = Some("mine".into()));
    let lack = async |cx: &Context| desired::pull_secret::lack(cx).await.unwrap().map(|lack| words(&lack.into()));
    let told = lack(&with_secret()).await.unwrap();
    assert!(told.contains("Secret user-app/mine") && told.contains("kubectl create namespace user-app"), "{told}");

    create(&kube, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "user-app"}})).await;
    let secret = |kind: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": {"name": "mine", "namespace": "user-app"},
            "stringData": {".dockerconfigjson": r#"{"auths":{}}"#},
        })
    };
    create(&kube, secret("Opaque")).await;
    let told = lack(&with_secret()).await.unwrap();
    assert!(told.contains("is of type Opaque") && !told.contains("create namespace"), "{told}");
    let reference = ObjectRef::namespaced("v1", "Secret", "user-app", "mine");
    kube.api(&reference).await.unwrap().delete("mine", &DeleteParams::default()).await.unwrap();
    create(&kube, secret("kubernetes.io/dockerconfigjson")).await;

    let cx = with_secret();
    assert_eq!(lack(&cx).await, None);
    let first = part::apply(&cx, PhaseId::Autoscaling, Part::Autoscaling).await.unwrap();
    assert!(first.changed > 0);
    let copy = ObjectRef::namespaced("v1", "Secret", "kube-system", "stackctl-pull");
    let copied = kube.get(&copy).await.unwrap().unwrap();
    let original = kube.get(&reference).await.unwrap().unwrap();
    assert_eq!(copied.data["data"], original.data["data"]);
    assert_eq!(copied.data["type"], "kubernetes.io/dockerconfigjson");
    let deployment = ObjectRef::namespaced("apps/v1", "Deployment", "kube-system", "metrics-server");
    let deployment = kube.get(&deployment).await.unwrap().unwrap();
    let named_there = &deployment.data["spec"]["template"]["spec"]["imagePullSecrets"];
    assert_eq!(*named_there, json!([{"name": "stackctl-pull"}]));
    let again = part::apply(&with_secret(), PhaseId::Autoscaling, Part::Autoscaling).await.unwrap();
    assert_eq!(again.changed, 0, "a second up writes nothing");

    let operator = desired::desired(&cx, Part::Operator).await.unwrap();
    let copies = named(&operator, "Secret");
    assert_eq!(copies.len(), 1);
    assert_eq!(copies[0].metadata.namespace.as_deref(), Some("cnpg-system"));
    let backup = desired::desired(&cx, Part::Backup).await.unwrap();
    assert!(named(&backup, "Secret").iter().all(|secret| secret.metadata.name.as_deref() != Some("stackctl-pull")));
    let database = desired::desired(&cx, Part::Database).await.unwrap();
    assert_eq!(named(&database, "Cluster")[0].data["spec"]["imagePullSecrets"], json!([{"name": "mine"}]));

    // Without one it goes again, and pods name none.
    let without = context(&plane, cache.path(), |_| {});
    part::apply(&without, PhaseId::Autoscaling, Part::Autoscaling).await.unwrap();
    assert!(kube.get(&copy).await.unwrap().is_none_or(|copy| copy.metadata.deletion_timestamp.is_some()));
    let deployment = ObjectRef::namespaced("apps/v1", "Deployment", "kube-system", "metrics-server");
    let deployment = kube.get(&deployment).await.unwrap().unwrap();
    assert!(deployment.data["spec"]["template"]["spec"].get("imagePullSecrets").is_none());
}
