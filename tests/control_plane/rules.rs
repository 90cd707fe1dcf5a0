//! A namespace with a ResourceQuota that wants limits and a LimitRange with a minimum and a maximum: every pod of the stack
//! gets in, and what cannot is told beforehand.

use k8s_openapi::api::core::v1::PodSpec;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use stackctl::{
    assets::Part,
    cli::{Global, UpArgs},
    config::{Config, Options},
    context::Context,
    desired::{self, rules},
    kube::{Kube, ObjectRef, apply},
    ui::Reporter,
};

use crate::harness::{control_plane, create, options, words};

fn context(namespace: &str) -> Context {
    let global = Global {
        kubeconfig: Some(control_plane().kubeconfig("admin-token", |_| {})),
        context: Some("test".into()),
        namespace: Some(namespace.into()),
        ..Global::default()
    };
    let config = Config::load(&global, &Options { up: Some(&UpArgs::default()), ..Options::default() }).unwrap();
    Context::new(config, Reporter::discard()).unwrap()
}

/// A quota, counted as nothing used: no controller runs that would.
async fn quota(kube: &Kube, namespace: &str, hard: &Value) {
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "team", "namespace": namespace},
        "spec": {"hard": hard}});
    create(kube, quota).await;
    let used: serde_json::Map<_, _> = hard.as_object().unwrap().keys().map(|key| (key.clone(), json!("0"))).collect();
    let reference = ObjectRef::namespaced("v1", "ResourceQuota", namespace, "team");
    let status = json!({"status": {"hard": hard, "used": used}});
    let api = kube.api(&reference).await.unwrap();
    api.patch_status("team", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
}

async fn range(kube: &Kube, namespace: &str, item: &Value) {
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "sizes", "namespace": namespace},
        "spec": {"limits": [item]}});
    create(kube, range).await;
}

async fn namespace(kube: &Kube, name: &str) {
    create(kube, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await;
}

/// What the server says of a pod with this content.
async fn admitted(kube: &Kube, namespace: &str, name: &str, spec: &Value) -> Result<(), String> {
    let pod: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}))
    .unwrap();
    let api = kube.api(&ObjectRef::namespaced("v1", "Pod", namespace, name)).await.unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    // Of a namespace that was made a moment ago the server's own caches may know nothing yet.
    for _ in 0..50 {
        match api.create(&dry, &pod).await {
            Err(error) if error.to_string().contains("not found") => {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            Err(error) => return Err(words(&stackctl::kube::request_failure(&error, "start a pod").into())),
            Ok(_) => return Ok(()),
        }
    }
    panic!("the namespace {namespace} is not known");
}

/// The pods of the stack's own namespace: those of templates, and those that the operator makes of what the Cluster says.
fn pods(objects: &[DynamicObject], namespace: &str) -> Vec<(String, Value)> {
    let own = objects.iter().filter(|object| object.metadata.namespace.as_deref() == Some(namespace));
    own.filter_map(|object| {
        let name = object.metadata.name.clone().unwrap();
        let of_operator = |resources: &Value| {
            json!({"containers": [{"name": "postgres", "image": "a:1", "resources": resources}],
                "initContainers": [{"name": "bootstrap", "image": "a:1", "resources": resources}]})
        };
        let mut spec = match object.types.as_ref().unwrap().kind.as_str() {
            "Cluster" => of_operator(&object.data["spec"]["resources"]),
            "ObjectStore" => of_operator(&object.data["spec"]["instanceSidecarConfiguration"]["resources"]),
            _ => object.data.pointer("/spec/template/spec")?.clone(),
        };
        let fields = spec.as_object_mut().unwrap();
        fields.remove("serviceAccountName");
        Some((format!("{name}-{}", object.types.as_ref().unwrap().kind.to_lowercase()), spec))
    })
    .collect()
}

async fn stack(cx: &Context) -> Vec<DynamicObject> {
    let mut objects = Vec::new();
    for part in [Part::Database, Part::FailoverHelper, Part::Web] {
        objects.extend(desired::embedded(cx, part).await.unwrap());
    }
    // Without upstream's manifest, which is fetched.
    let store = Part::Backup.embedded().unwrap().into_iter();
    objects.extend(store.filter(|object| object.metadata.namespace.as_deref() == Some("user-app")).map(
        |mut object| {
            object.metadata.namespace = Some(cx.config.stack.namespace.clone());
            object
        },
    ));
    objects
}

#[tokio::test]
async fn every_pod_gets_past_a_quota_of_limits_and_a_range() {
    let kube = control_plane().connect().await;
    let name = "rules-fit";
    namespace(&kube, name).await;
    quota(
        &kube,
        name,
        &json!({"limits.cpu": "8", "limits.memory": "8Gi", "requests.cpu": "4", "requests.memory": "8Gi"}),
    )
    .await;
    let item =
        json!({"type": "Container", "min": {"cpu": "20m", "memory": "24Mi"}, "max": {"cpu": "2", "memory": "1Gi"}});
    range(&kube, name, &item).await;
    let cx = context(name);
    let mut objects = stack(&cx).await;
    let class = Part::Base.embedded().unwrap().into_iter().filter(|object| object.metadata.namespace.is_none());
    let class: Vec<_> = class.filter(|object| object.types.as_ref().unwrap().kind == "PriorityClass").collect();
    apply(&kube, &class, options(), &|_| {}).await.unwrap();
    let as_embedded = pods(&objects, name);
    rules::fit(&cx, &mut objects).await.unwrap();
    let fitted = pods(&objects, name);
    assert!(fitted.len() >= 5, "{fitted:?}");
    for (pod, spec) in &fitted {
        admitted(&kube, name, pod, spec).await.unwrap_or_else(|error| panic!("{pod}: {error}"));
    }
    let helper = as_embedded.iter().find(|(pod, _)| pod.starts_with("failover-helper")).unwrap();
    let refused = admitted(&kube, name, "as-embedded", &helper.1).await.unwrap_err();
    assert!(refused.contains("a LimitRange of the namespace does not allow it: minimum"), "{refused}");
    assert!(refused.contains("20m, but request is 10m") && refused.contains("[sizes]"), "{refused}");

    // A pod that is started by hand and says nothing.
    let bare: PodSpec = serde_json::from_value(json!({"containers": [{"name": "prober", "image": "a:1"}]})).unwrap();
    let bare = serde_json::to_value(kube.fit_pod(name, bare).await.unwrap()).unwrap();
    admitted(&kube, name, "prober", &bare).await.unwrap();
    assert!(bare["containers"][0]["resources"]["limits"]["cpu"].is_string(), "{bare}");
}

#[tokio::test]
async fn what_a_range_or_a_quota_does_not_allow_is_told_with_its_number() {
    let kube = control_plane().connect().await;
    let name = "rules-refuse";
    namespace(&kube, name).await;
    range(&kube, name, &json!({"type": "Container", "max": {"memory": "256Mi"}})).await;
    quota(&kube, name, &json!({"limits.memory": "100Mi"})).await;
    let cx = context(name);
    let mut objects = stack(&cx).await;
    rules::fit(&cx, &mut objects).await.unwrap();
    let all = pods(&objects, name);
    let of = |beginning: &str| &all.iter().find(|(pod, _)| pod.starts_with(beginning)).unwrap().1;
    let database = admitted(&kube, name, "db", of("user-db-cluster")).await.unwrap_err();
    assert!(database.contains("maximum memory usage per Container is 256Mi, but limit is 512Mi"), "{database}");
    let store = admitted(&kube, name, "store", of("backup-store")).await.unwrap_err();
    assert!(store.contains("ResourceQuota team is used up: requested: limits.memory=288Mi, used: limits.memory=0, of limits.memory=100Mi"), "{store}");
    assert!(store.contains("kubectl edit resourcequota team"), "{store}");
    let bare = json!({"containers": [{"name": "prober", "image": "a:1", "resources": {"limits": {"memory": "16Mi"}}}]});
    admitted(&kube, name, "small", &bare).await.unwrap();
}

/// Before anything is changed, and without anything of the cluster but its API.
#[tokio::test]
async fn up_says_first_what_the_namespace_does_not_allow() {
    let kube = control_plane().connect().await;
    let (large, used_up, none) = ("rules-large", "rules-used-up", "rules-none");
    for name in [large, used_up] {
        namespace(&kube, name).await;
    }
    range(&kube, large, &json!({"type": "Container", "max": {"memory": "256Mi"}})).await;
    quota(&kube, used_up, &json!({"pods": "4"})).await;
    let refusal = async |name: &str| {
        let mut cx = context(name);
        // Upstream's manifest of the plugin is fetched, which a test does not.
        cx.config.backup = None;
        rules::refusal(&cx).await.unwrap().map(|failure| words(&failure.into()))
    };
    assert_eq!(refusal(none).await, None);
    let told = refusal(large).await.unwrap();
    assert!(told.contains("container postgres of Cluster rules-large/user-db may use 512Mi of memory, and LimitRange sizes allows 256Mi at most: nothing was changed"), "{told}");
    let told = refusal(used_up).await.unwrap();
    assert!(told.contains("ResourceQuota rules-used-up/team has no room for the stack: it asks for pods 7 at first, and 0 of 4 are used"), "{told}");
}
