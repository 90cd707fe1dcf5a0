use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use serde_json::json;
use stackctl::{
    error::kind_of,
    kube::{ApplyOptions, Change, Kube, ObjectRef},
};

use crate::harness::{control_plane, create, options, sandbox, set_status, words};

#[tokio::test]
async fn created_then_unchanged_then_configured() {
    let sandbox = sandbox("changes").await;
    let mut objects = vec![sandbox.config_map("a", "1"), sandbox.config_map("b", "1"), sandbox.deployment("web")];
    assert_eq!(sandbox.apply(&objects).await.unwrap(), [Change::Created; 3]);
    let version = async |name: &str| {
        let live = sandbox.get(&sandbox.reference("v1", "ConfigMap", name)).await.unwrap();
        live.metadata.resource_version.unwrap()
    };
    let before = (version("a").await, version("b").await);

    let requests = sandbox.kube.requests();
    assert_eq!(sandbox.apply(&objects).await.unwrap(), [Change::Unchanged; 3]);
    // One list for each kind, one patch for each object.
    assert_eq!(sandbox.kube.requests() - requests, 5);
    assert_eq!((version("a").await, version("b").await), before);

    // The server keeps times in whole seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    objects[1] = sandbox.config_map("b", "2");
    let changes = sandbox.apply(&objects).await.unwrap();
    assert_eq!(changes, [Change::Unchanged, Change::Configured, Change::Unchanged]);
}

#[tokio::test]
async fn a_status_that_moves_is_not_a_change_of_ours() {
    let sandbox = sandbox("status").await;
    let objects = [sandbox.deployment("web")];
    sandbox.apply(&objects).await.unwrap();
    let reference = sandbox.reference("apps/v1", "Deployment", "web");
    set_status(&sandbox.kube, &reference, json!({"replicas": 1})).await;
    assert_eq!(sandbox.apply(&objects).await.unwrap(), [Change::Unchanged]);
}

#[tokio::test]
async fn what_somebody_else_changed_is_put_back() {
    let sandbox = sandbox("drift").await;
    let objects = [sandbox.config_map("a", "ours")];
    sandbox.apply(&objects).await.unwrap();
    let reference = sandbox.reference("v1", "ConfigMap", "a");
    let api = sandbox.kube.api(&reference).await.unwrap();
    let merge = Patch::Merge(json!({"data": {"key": "theirs"}}));
    let params = PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() };
    api.patch("a", &params, &merge).await.unwrap();

    let error = sandbox.apply(&objects).await.unwrap_err();
    let text = words(&error);
    assert!(text.contains("\"kubectl-edit\" owns .data.key") && text.contains("--force-conflicts"), "{text}");
    assert_eq!(sandbox.get(&reference).await.unwrap().data["data"]["key"], "theirs", "nothing is taken by itself");

    let force = ApplyOptions { force_conflicts: true, ..options() };
    assert_eq!(sandbox.apply_with(&objects, force).await.unwrap(), [Change::Configured]);
    assert_eq!(sandbox.get(&reference).await.unwrap().data["data"]["key"], "ours");
}

#[tokio::test]
async fn replicas_are_left_to_the_autoscaler() {
    let sandbox = sandbox("replicas").await;
    let objects = [sandbox.deployment("web")];
    sandbox.apply(&objects).await.unwrap();
    let reference = sandbox.reference("apps/v1", "Deployment", "web");
    let api = sandbox.kube.api(&reference).await.unwrap();
    let scale = Patch::Merge(json!({"spec": {"replicas": 7}}));
    api.patch_scale("web", &PatchParams::default(), &scale).await.unwrap();

    let force = ApplyOptions { force_conflicts: true, ..options() };
    assert_eq!(sandbox.apply_with(&objects, force).await.unwrap(), [Change::Unchanged]);
    assert_eq!(sandbox.get(&reference).await.unwrap().data["spec"]["replicas"], 7);
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let sandbox = sandbox("dry-run").await;
    sandbox.apply(&[sandbox.config_map("old", "1")]).await.unwrap();
    let dry = ApplyOptions { dry_run: true, ..options() };
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let objects = [sandbox.config_map("old", "2"), sandbox.config_map("new", "1")];
    let changes = sandbox.apply_with(&objects, dry).await.unwrap();
    assert_eq!(changes, [Change::Configured, Change::Created]);
    let old = sandbox.get(&sandbox.reference("v1", "ConfigMap", "old")).await.unwrap();
    assert_eq!(old.data["data"]["key"], "1");
    assert!(sandbox.get(&sandbox.reference("v1", "ConfigMap", "new")).await.is_none());
}

#[tokio::test]
async fn a_dry_run_of_a_whole_new_stack() {
    let kube = control_plane().connect().await;
    let objects: Vec<_> = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "dry-new"}}),
        definition("drynews", "DryNew"),
        json!({"apiVersion": "test.example.com/v1", "kind": "DryNew", "metadata": {"name": "x", "namespace": "dry-new"}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "dry-new"}}),
    ]
    .into_iter()
    .map(|object| serde_json::from_value(object).unwrap())
    .collect();
    let dry = ApplyOptions { dry_run: true, ..options() };
    let changes = stackctl::kube::apply(&kube, &objects, dry, &|_| {}).await.unwrap();
    assert!(changes.iter().all(|(_, change)| *change == Change::Created), "{changes:?}");
    assert!(kube.get(&ObjectRef::cluster("v1", "Namespace", "dry-new")).await.unwrap().is_none());
}

#[tokio::test]
async fn an_unknown_field_is_refused_and_named() {
    let sandbox = sandbox("unknown-field").await;
    let mut object = sandbox.deployment("web");
    object.data["spec"]["replica"] = json!(3);
    let text = words(&sandbox.apply(&[object]).await.unwrap_err());
    assert!(text.contains("apply Deployment test-unknown-field/web"), "{text}");
    assert!(text.contains("does not know a field") && text.contains("spec.replica"), "{text}");
}

#[tokio::test]
async fn an_invalid_value_is_refused_and_named() {
    let sandbox = sandbox("invalid").await;
    let service = sandbox.object("v1", "Service", "s", json!({"spec": {"ports": [{"port": 99999}]}}));
    let text = words(&sandbox.apply(&[service]).await.unwrap_err());
    assert!(text.contains("spec.ports[0].port"), "{text}");
}

#[tokio::test]
async fn an_unknown_kind_is_refused_and_named() {
    let sandbox = sandbox("unknown-kind").await;
    let object = sandbox.object("nobody.example.com/v1", "Nothing", "x", json!({}));
    let text = words(&sandbox.apply(&[object]).await.unwrap_err());
    assert!(text.contains("does not know the kind Nothing of nobody.example.com/v1"), "{text}");
}

fn definition(plural: &str, kind: &str) -> serde_json::Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.test.example.com")},
        "spec": {
            "group": "test.example.com", "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}}}],
        }
    })
}

#[tokio::test]
async fn a_kind_and_an_object_of_it_at_once() {
    let sandbox = sandbox("crd").await;
    // The object comes first in the list: the engine finds the order.
    let object = sandbox.object("test.example.com/v1", "Widget", "x", json!({"spec": {"size": 1}}));
    let objects = [object, serde_json::from_value(definition("widgets", "Widget")).unwrap()];
    assert_eq!(sandbox.apply(&objects).await.unwrap(), [Change::Created; 2]);
    assert_eq!(sandbox.apply(&objects).await.unwrap(), [Change::Unchanged; 2]);

    let wrong = sandbox.object("test.example.com/v1", "Widget", "x", json!({"spec": {"sise": 1}}));
    let text = words(&sandbox.apply(&[wrong]).await.unwrap_err());
    assert!(text.contains("does not know a field") && text.contains("sise"), "{text}");
}

#[tokio::test]
async fn a_quota_that_is_used_up() {
    let sandbox = sandbox("quota").await;
    sandbox
        .apply(&[sandbox.object("v1", "ResourceQuota", "q", json!({"spec": {"hard": {"count/configmaps": "0"}}}))])
        .await
        .unwrap();
    let hard = json!({"hard": {"count/configmaps": "0"}, "used": {"count/configmaps": "0"}});
    set_status(&sandbox.kube, &sandbox.reference("v1", "ResourceQuota", "q"), hard).await;
    let give_up = Instant::now() + Duration::from_secs(15);
    let text = loop {
        // The server's view of quotas lags behind for moments.
        match sandbox.apply(&[sandbox.config_map("a", "1")]).await {
            Err(error) => break words(&error),
            Ok(_) if Instant::now() > give_up => panic!("the quota is not enforced"),
            Ok(_) => {
                let api = sandbox.kube.api(&sandbox.reference("v1", "ConfigMap", "a")).await.unwrap();
                api.delete("a", &kube::api::DeleteParams::default()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
    };
    assert!(text.contains("ResourceQuota q is used up") && text.contains("kubectl edit resourcequota q"), "{text}");
}

#[tokio::test]
async fn permissions_that_are_too_weak() {
    let sandbox = sandbox("weak").await;
    let weak = Kube::connect(&control_plane().cluster("weak-token")).await.unwrap();
    let error = stackctl::kube::apply(&weak, &[sandbox.config_map("a", "1")], options(), &|_| {}).await.unwrap_err();
    let text = words(&error);
    assert_eq!(kind_of(&error).exit_code(), 1);
    assert!(text.contains("User \"weak\" cannot") && text.contains("kubectl auth can-i"), "{text}");
}

#[tokio::test]
async fn a_namespace_that_is_being_deleted() {
    let sandbox = sandbox("terminating").await;
    let reference = ObjectRef::cluster("v1", "Namespace", &sandbox.namespace);
    let api = sandbox.kube.api(&reference).await.unwrap();
    // No controller runs, so it stays like this.
    api.delete(&sandbox.namespace, &kube::api::DeleteParams::default()).await.unwrap();
    let text = words(&sandbox.apply(&[sandbox.config_map("a", "1")]).await.unwrap_err());
    assert!(text.contains("its namespace is being deleted") && text.contains("wait until"), "{text}");
}

#[tokio::test]
async fn a_namespace_that_does_not_exist() {
    let kube = control_plane().connect().await;
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "nowhere"}});
    let objects = [serde_json::from_value(object).unwrap()];
    let text = words(&stackctl::kube::apply(&kube, &objects, options(), &|_| {}).await.unwrap_err());
    assert!(text.contains("\"nowhere\" not found") && text.contains("create namespace"), "{text}");
}

#[tokio::test]
async fn a_webhook_that_does_not_answer_is_tried_again_until_the_deadline() {
    let sandbox = sandbox("webhook").await;
    create(
        &sandbox.kube,
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "nobody"},
            "webhooks": [{
                "name": "nobody.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "clientConfig": {"url": "https://127.0.0.1:1/"},
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": sandbox.namespace}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
            }],
        }),
    )
    .await;
    // The server's list of webhooks lags behind for moments.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let told = std::sync::atomic::AtomicU32::new(0);
    let count = |event: stackctl::kube::ApplyEvent| {
        if let stackctl::kube::ApplyEvent::Problem(problem) = event {
            assert_eq!(problem.reason, "WebhookUnavailable");
            told.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    };
    let began = Instant::now();
    let short = ApplyOptions { deadline: began + Duration::from_secs(3), ..options() };
    let objects = [sandbox.config_map("a", "1")];
    let text = words(&stackctl::kube::apply(&sandbox.kube, &objects, short, &count).await.unwrap_err());
    assert!(text.contains("an admission webhook does not answer") && text.contains("nobody.example.com"), "{text}");
    assert!(began.elapsed() > Duration::from_secs(1), "it is tried more than once");
    assert_eq!(told.into_inner(), 1, "and told once");

    let later = ApplyOptions { deadline: Instant::now() + Duration::from_secs(20), ..options() };
    let repair = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let reference =
            ObjectRef::cluster("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "nobody");
        let api = sandbox.kube.api(&reference).await.unwrap();
        api.delete("nobody", &kube::api::DeleteParams::default()).await.unwrap();
    };
    let (changes, ()) = tokio::join!(sandbox.apply_with(&objects, later), repair);
    assert_eq!(changes.unwrap(), [Change::Created]);
}
