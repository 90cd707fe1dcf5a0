//! Where images come from, with upstream's own manifests, and the Secret by which they may be pulled.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use kube::api::{DeleteParams, DynamicObject};
use serde_json::{Value, json};
use stackctl::{
    assets::{Part, components},
    cli::{Global, StackArgs, UpArgs},
    config::{Config, ImageMirror, Options},
    context::Context,
    desired,
    kube::ObjectRef,
    phases::{
        Phase,
        image::{Image, Own},
        part,
    },
    ui::{PhaseId, Reporter},
};

use crate::harness::{ControlPlane, control_plane, create, release_manifest, words};

/// Upstream's manifests as on a machine that has fetched them before.
fn fetch(cache: &Path) {
    for (component, file) in [("cnpg-operator", "cnpg"), ("plugin-barman-cloud", "plugin-barman-cloud")] {
        let component = components().unwrap().get(component).unwrap().clone();
        let manifest = component.manifest.as_ref().unwrap();
        let text = release_manifest(&format!("{file}-{}.yaml", component.version));
        let name = manifest.url.rsplit('/').next().unwrap();
        fs::create_dir_all(cache.join("downloads")).unwrap();
        fs::write(cache.join("downloads").join(format!("{}-{name}", &manifest.sha256[..12])), text).unwrap();
    }
}

/// A command on such a machine.
pub fn context(plane: &ControlPlane, cache: &Path, change: impl FnOnce(&mut Config)) -> Context {
    fetch(cache);
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

/// On a control plane of its own: every node of the cluster is looked at.
#[tokio::test]
async fn a_context_that_is_called_as_kinds_are_and_is_another_clusters_needs_a_registry() {
    let plane = ControlPlane::of_its_own();
    let kube = plane.connect().await;
    let provider = json!({"providerID": "aws:///eu-central-1a/i-0123"});
    create(&kube, json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "spec": provider})).await;
    let kubeconfig = plane.kubeconfig("admin-token", |config| config["contexts"][0]["name"] = json!("kind-test"));
    let global = Global { kubeconfig: Some(kubeconfig), context: Some("kind-test".into()), ..Global::default() };
    let config = Config::load(&global, &Options::default()).unwrap();
    assert!(config.loads_nodes());
    let cx = Context::new(config, Reporter::discard()).unwrap();
    let told = words(&Image(Own::Web).needed(&cx).await.unwrap_err());
    assert!(told.contains("needs a registry") && told.contains("node n1 is none of kind's"), "{told}");
    let with_registry = Global { context: Some("kind-test".into()), ..Global::default() };
    let up = UpArgs {
        stack: StackArgs { registry: Some("r.example.com/x".into()), ..StackArgs::default() },
        ..UpArgs::default()
    };
    let config = Config::load(&with_registry, &Options { up: Some(&up), ..Options::default() }).unwrap();
    assert!(!config.loads_nodes(), "who names a registry has it used");
}

/// An engine that has nothing, and gets everything; what it is asked is noted.
const DOCKER: &str = r#"#!/bin/sh
echo "$*" >> "$HOME/calls"
case "$1 $2" in
  "info --format") echo '{"ServerVersion":"27.0.1","NCPU":4,"MemTotal":17179869184,"DockerRootDir":"/","OSType":"linux","CgroupVersion":"2","OperatingSystem":"Debian"}' ;;
  "image inspect") echo "Error: No such image: $3" >&2; exit 1 ;;
  "save --output") echo "$*" > "$3" ;;
  "pull "*) [ ! -e "$HOME/denied" ] || { echo "unauthorized: authentication required" >&2; exit 1; } ;;
  "tag "* | "build "* | "image rm" | "buildx version") ;;
  *) echo "unexpected: docker $*" >&2; exit 64 ;;
esac
"#;

#[test]
fn a_bundle_is_made_of_upstreams_images_and_manifests_or_not_at_all() {
    let home = tempfile::tempdir().unwrap();
    fetch(&home.path().join(".cache/stackctl"));
    fs::create_dir(home.path().join("bin")).unwrap();
    fs::write(home.path().join("bin/docker"), DOCKER).unwrap();
    fs::set_permissions(home.path().join("bin/docker"), fs::Permissions::from_mode(0o755)).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stackctl"));
        command.args(arguments).env_clear().current_dir(home.path());
        command.env("HOME", home.path()).env("PATH", home.path().join("bin"));
        let output = command.env("HTTPS_PROXY", "http://127.0.0.1:9").output().unwrap();
        let (out, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        format!("exit code {}\n{out}{told}", output.status.code().unwrap())
    };
    let create = ["bundle", "create", "made/bundle", "--image-mirror", "mirror.example.com/all"];

    fs::write(home.path().join("denied"), "").unwrap();
    let denied = run(&create);
    assert!(denied.starts_with("exit code 1") && denied.contains("docker login mirror.example.com"), "{denied}");
    assert_eq!(fs::read_dir(home.path().join("made")).unwrap().count(), 0, "half of it was left");
    fs::remove_file(home.path().join("denied")).unwrap();

    let made = run(&create);
    assert!(made.starts_with("exit code 0") && made.contains("stackctl bundle push --bundle made/bundle"), "{made}");
    let index = fs::read_to_string(home.path().join("made/bundle/bundle.json")).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    let saved: Vec<&str> =
        index["stack_images"].as_array().unwrap().iter().map(|file| file["image"].as_str().unwrap()).collect();
    for component in components().unwrap().components.iter().filter(|component| component.image.is_some()) {
        let image = component.image.as_deref().unwrap();
        assert!(saved.contains(&image), "{image} in {saved:?}");
        let calls = fs::read_to_string(home.path().join("calls")).unwrap();
        let pinned = component.pinned_image().unwrap();
        let path = pinned.split_once('/').unwrap().1;
        assert!(path.contains("@sha256:"), "{path} is not pulled by its digest");
        assert!(calls.contains(&format!("\npull mirror.example.com/all/{path}\n")), "{calls}");
        assert!(calls.contains(&format!("\ntag mirror.example.com/all/{path} {image}\n")), "{calls}");
    }
    let again = run(&create);
    assert!(again.starts_with("exit code 1") && again.contains("made/bundle is there already"), "{again}");

    // It serves an up on a cluster that is there, by a registry, and no minikube cluster.
    let bundle = ["--bundle", "made/bundle"];
    let context = ["--context", "prod", "--image-mirror", "r.example.com/x"];
    let rendered = run(&[&["render"][..], &bundle, &context].concat());
    assert!(rendered.starts_with("exit code 0"), "{rendered}");
    assert!(rendered.contains("r.example.com/x/cloudnative-pg/cloudnative-pg:"), "{rendered}");
    let sidecar = index["sidecar_image"]["image"].as_str().unwrap();
    assert!(rendered.contains(&format!("r.example.com/x/{sidecar}")), "its own WAL programs: {sidecar}");
    let minikube = run(&[&["up", "--quiet"][..], &bundle].concat());
    assert!(minikube.contains("it has no node for a minikube cluster"), "{minikube}");
}
