use kube::api::{Patch, PatchParams};
use serde_json::json;
use stackctl::kube::{
    Inventory,
    diff::{DiffKind, diff},
};

use crate::harness::{control_plane, options, sandbox, words};

#[tokio::test]
async fn what_is_as_it_should_be_is_left_out() {
    let sandbox = sandbox("diff-equal").await;
    // The server fills in some thirty fields of a Deployment: none of them is a difference.
    let objects = [sandbox.deployment("web"), sandbox.config_map("a", "1")];
    sandbox.apply(&objects).await.unwrap();
    let differences = diff(&sandbox.kube, &sandbox.namespace, &objects).await.unwrap();
    assert!(differences.is_empty(), "{differences:?}");
}

#[tokio::test]
async fn missing_changed_by_others_and_extra() {
    let sandbox = sandbox("diff").await;
    let inventory = Inventory::load(&sandbox.kube, &sandbox.namespace).await.unwrap();
    let old = [sandbox.config_map("changed", "ours"), sandbox.config_map("extra", "1")];
    inventory.apply("web", &old, options(), &|_| {}, &|_| {}).await.unwrap();
    let api = sandbox.kube.api(&sandbox.reference("v1", "ConfigMap", "changed")).await.unwrap();
    let edit = PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() };
    api.patch("changed", &edit, &Patch::Merge(json!({"data": {"key": "theirs"}}))).await.unwrap();

    let wanted = [sandbox.config_map("changed", "ours"), sandbox.config_map("missing", "1")];
    let differences = diff(&sandbox.kube, &sandbox.namespace, &wanted).await.unwrap();
    let found: Vec<_> = differences.iter().map(|one| (one.object.name.as_str(), one.kind)).collect();
    let expected = [("changed", DiffKind::Changed), ("missing", DiffKind::Missing), ("extra", DiffKind::Extra)];
    assert_eq!(found, expected);
    assert!(differences[0].text.contains("-  key: theirs\n+  key: ours"), "{}", differences[0].text);
    assert!(differences[1].text.contains("--- /dev/null\n+++ ConfigMap test-diff/missing"), "{}", differences[1].text);
    assert!(differences[2].text.contains("+++ /dev/null"), "{}", differences[2].text);
    // It was only asked.
    assert!(sandbox.get(&sandbox.reference("v1", "ConfigMap", "missing")).await.is_none());
    assert!(sandbox.get(&sandbox.reference("v1", "ConfigMap", "extra")).await.is_some());
}

#[tokio::test]
async fn a_secret_differs_without_being_shown() {
    let sandbox = sandbox("diff-secret").await;
    let secret = |value: &str| sandbox.object("v1", "Secret", "s", json!({"stringData": {"password": value}}));
    sandbox.apply(&[secret("first-password")]).await.unwrap();
    let differences = diff(&sandbox.kube, &sandbox.namespace, &[secret("second-password")]).await.unwrap();
    assert_eq!(differences.len(), 1);
    let text = &differences[0].text;
    assert!(text.contains("*** (before)") && text.contains("*** (after)"), "{text}");
    // The values and their base64.
    for secret in ["first", "second", "Zmlyc3", "c2Vjb2"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn nothing_there_yet_not_even_the_namespace_or_the_kind() {
    let kube = control_plane().connect().await;
    let objects: Vec<_> = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "diff-new"}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "diff-new"}}),
        json!({"apiVersion": "none.example.com/v1", "kind": "None", "metadata": {"name": "a", "namespace": "diff-new"}}),
    ]
    .into_iter()
    .map(|object| serde_json::from_value(object).unwrap())
    .collect();
    let differences = diff(&kube, "diff-new", &objects).await.unwrap();
    assert!(differences.iter().all(|one| one.kind == DiffKind::Missing) && differences.len() == 3, "{differences:?}");
}

#[tokio::test]
async fn what_the_server_refuses_is_an_error() {
    let sandbox = sandbox("diff-refused").await;
    let mut object = sandbox.deployment("web");
    object.data["spec"]["replica"] = json!(3);
    let text = words(&diff(&sandbox.kube, &sandbox.namespace, &[object]).await.unwrap_err());
    assert!(text.contains("does not know a field") && text.contains("spec.replica"), "{text}");
}

/// The futures must be sendable: commands box them.
#[tokio::test]
async fn its_future_can_be_sent() {
    let sandbox = sandbox("diff-send").await;
    let objects = [sandbox.config_map("a", "1")];
    let boxed: futures::future::BoxFuture<'_, _> = Box::pin(diff(&sandbox.kube, &sandbox.namespace, &objects));
    assert_eq!(boxed.await.unwrap().len(), 1);
}
