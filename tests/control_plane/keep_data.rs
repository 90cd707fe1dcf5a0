use std::time::{Duration, Instant};

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use stackctl::{
    error::kind_of,
    kube::{Inventory, ObjectRef, keep_data},
};

use crate::{
    harness::{Sandbox, create, options, sandbox, set_status, words},
    manifests::operators_kinds,
};

const NAME: &str = "db";

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(15)
}

fn cluster(sandbox: &Sandbox) -> ObjectRef {
    sandbox.reference("postgresql.cnpg.io/v1", "Cluster", NAME)
}

/// What the operator makes: a Cluster whose primary is the second instance, two pods and two claims. The claims
/// still say that the first is the primary, as for moments after a failover.
async fn database(sandbox: &Sandbox) {
    operators_kinds(&sandbox.kube).await;
    let spec = json!({"spec": {"instances": 2, "storage": {"size": "1Gi"}}});
    sandbox.apply(&[sandbox.object("postgresql.cnpg.io/v1", "Cluster", NAME, spec)]).await.unwrap();
    let uid = sandbox.get(&cluster(sandbox)).await.unwrap().metadata.uid;
    set_status(&sandbox.kube, &cluster(sandbox), json!({"currentPrimary": "db-2", "targetPrimary": "db-2"})).await;
    let owners = json!([{"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "name": NAME, "uid": uid,
                         "controller": true}]);
    let metadata = |name: &str, role: &str| {
        json!({"name": name, "namespace": sandbox.namespace, "ownerReferences": owners,
               "labels": {"cnpg.io/cluster": NAME, "cnpg.io/instanceName": name, "cnpg.io/instanceRole": role}})
    };
    for (name, claims_role, pods_role) in [("db-1", "primary", "replica"), ("db-2", "replica", "primary")] {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        let rest = json!({"metadata": metadata(name, claims_role), "spec": spec});
        let claim = sandbox.object("v1", "PersistentVolumeClaim", name, rest);
        create(&sandbox.kube, serde_json::to_value(claim).unwrap()).await;
        let spec = json!({"containers": [{"name": "postgres", "image": "postgresql:1"}]});
        let rest = json!({"metadata": metadata(name, pods_role), "spec": spec});
        create(&sandbox.kube, serde_json::to_value(sandbox.object("v1", "Pod", name, rest)).unwrap()).await;
    }
}

/// The claims as the operator must find them.
async fn kept(sandbox: &Sandbox) {
    assert!(sandbox.get(&cluster(sandbox)).await.is_none(), "the Cluster is still there");
    for (name, role) in [("db-1", "replica"), ("db-2", "primary")] {
        assert!(sandbox.get(&sandbox.reference("v1", "Pod", name)).await.is_none());
        let claim = sandbox.get(&sandbox.reference("v1", "PersistentVolumeClaim", name)).await.expect(name);
        assert!(claim.metadata.deletion_timestamp.is_none());
        assert_eq!(claim.metadata.owner_references.unwrap_or_default().len(), 0);
        assert_eq!(claim.metadata.labels.unwrap()["cnpg.io/instanceRole"], role, "{name}");
    }
}

async fn release(sandbox: &Sandbox) -> anyhow::Result<()> {
    keep_data::release_volumes(&sandbox.kube, &sandbox.namespace, NAME, soon(), &|_| {}).await
}

/// As after a run that was killed once it had the Cluster deleted.
async fn interrupted(sandbox: &Sandbox) {
    let api = sandbox.kube.api(&cluster(sandbox)).await.unwrap();
    let patch = Patch::Merge(json!({"metadata": {"finalizers": ["stackctl/keep-volumes"]}}));
    api.patch(NAME, &PatchParams::default(), &patch).await.unwrap();
    api.delete(NAME, &DeleteParams::background()).await.unwrap();
    assert!(sandbox.get(&cluster(sandbox)).await.is_some(), "the finalizer holds it");
}

#[tokio::test]
async fn the_claims_stay_without_an_owner_and_the_last_primarys_is_known() {
    let sandbox = sandbox("keep-claims").await;
    database(&sandbox).await;
    release(&sandbox).await.unwrap();
    kept(&sandbox).await;
    release(&sandbox).await.expect("there is nothing left to do");
}

#[tokio::test]
async fn an_interrupted_release_goes_on() {
    let sandbox = sandbox("keep-again").await;
    database(&sandbox).await;
    interrupted(&sandbox).await;
    release(&sandbox).await.unwrap();
    kept(&sandbox).await;
}

#[tokio::test]
async fn an_interrupted_release_is_ended_before_the_next_apply() {
    let sandbox = sandbox("keep-wake").await;
    database(&sandbox).await;
    keep_data::wake(&sandbox.kube, &sandbox.namespace, NAME, soon()).await.unwrap();
    assert!(sandbox.get(&cluster(&sandbox)).await.is_some(), "one that runs is left alone");
    interrupted(&sandbox).await;
    keep_data::wake(&sandbox.kube, &sandbox.namespace, NAME, soon()).await.unwrap();
    kept(&sandbox).await;
}

#[tokio::test]
async fn an_interrupted_release_does_not_hold_up_removing_everything() {
    let sandbox = sandbox("keep-not").await;
    operators_kinds(&sandbox.kube).await;
    let spec: Value = json!({"spec": {"instances": 1, "storage": {"size": "1Gi"}},
        "metadata": {"name": NAME, "namespace": sandbox.namespace, "finalizers": ["stackctl/keep-volumes"]}});
    let object = sandbox.object("postgresql.cnpg.io/v1", "Cluster", NAME, spec);
    let inventory = Inventory::load(&sandbox.kube, &sandbox.namespace).await.unwrap();
    inventory.apply("database", &[object], options(), &|_| {}, &|_| {}).await.unwrap();
    // Without a garbage collector its finalizer would stay; the deletion that is under way has none.
    let api = sandbox.kube.api(&cluster(&sandbox)).await.unwrap();
    api.delete(NAME, &DeleteParams::background()).await.unwrap();
    assert!(sandbox.get(&cluster(&sandbox)).await.is_some(), "the finalizer holds it");
    inventory.delete("database", &|_| false, soon(), &|_| {}).await.unwrap();
    assert!(sandbox.get(&cluster(&sandbox)).await.is_none());
}

#[tokio::test]
async fn nothing_is_stopped_during_a_failover() {
    let sandbox = sandbox("keep-failover").await;
    database(&sandbox).await;
    set_status(&sandbox.kube, &cluster(&sandbox), json!({"targetPrimary": "pending"})).await;
    let text = words(&release(&sandbox).await.unwrap_err());
    assert!(text.contains("no settled primary") && text.contains("run the same command again"), "{text}");
    assert!(sandbox.get(&sandbox.reference("v1", "Pod", "db-2")).await.is_some());
    assert!(sandbox.get(&cluster(&sandbox)).await.unwrap().metadata.deletion_timestamp.is_none());
}

#[tokio::test]
async fn claims_that_are_going_already_cannot_be_kept() {
    let sandbox = sandbox("keep-late").await;
    database(&sandbox).await;
    let api = sandbox.kube.api(&sandbox.reference("v1", "PersistentVolumeClaim", "db-1")).await.unwrap();
    // The protection finalizer holds it while a pod uses it.
    let patch = Patch::Merge(json!({"metadata": {"finalizers": ["kubernetes.io/pvc-protection"]}}));
    api.patch("db-1", &PatchParams::default(), &patch).await.unwrap();
    api.delete("db-1", &DeleteParams::default()).await.unwrap();
    let error = release(&sandbox).await.unwrap_err();
    assert_eq!(kind_of(&error).exit_code(), 1);
    assert!(words(&error).contains("PersistentVolumeClaim db-1 is being deleted already"), "{}", words(&error));
}
