use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use serde_json::json;
use stackctl::kube::{DeleteEvent, INVENTORY, Inventory, ObjectRef};

use crate::harness::{Sandbox, control_plane, create, options, sandbox, words};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(15)
}

#[tokio::test]
async fn what_leaves_the_set_is_pruned_and_nothing_else() {
    let sandbox = sandbox("prune").await;
    let inventory = Inventory::load(&sandbox.kube, &sandbox.namespace).await.unwrap();
    create(&sandbox.kube, serde_json::to_value(sandbox.config_map("foreign", "1")).unwrap()).await;
    let all = [sandbox.config_map("a", "1"), sandbox.config_map("b", "1")];
    inventory.apply("web", &all, options(), &|_| {}, &|_| {}).await.unwrap();
    inventory.apply("other", &[sandbox.config_map("c", "1")], options(), &|_| {}, &|_| {}).await.unwrap();

    // Another run reads what this one wrote.
    let inventory = Inventory::load(&sandbox.kube, &sandbox.namespace).await.unwrap();
    assert_eq!(inventory.parts(), ["other", "web"]);
    assert_eq!(inventory.leftovers("web", &[sandbox.reference("v1", "ConfigMap", "a")]).len(), 1);
    let gone = Mutex::new(Vec::new());
    let on = |event: DeleteEvent| {
        if let DeleteEvent::Deleted(object) = event {
            gone.lock().unwrap().push(object.name);
        }
    };
    inventory.apply("web", &all[..1], options(), &|_| {}, &on).await.unwrap();
    assert_eq!(*gone.lock().unwrap(), ["b"]);
    for (name, there) in [("a", true), ("b", false), ("c", true), ("foreign", true)] {
        let found = sandbox.get(&sandbox.reference("v1", "ConfigMap", name)).await;
        assert_eq!(found.is_some(), there, "{name}");
    }
}

#[tokio::test]
async fn a_second_run_writes_nothing() {
    let sandbox = sandbox("second-run").await;
    let objects = [sandbox.config_map("a", "1"), sandbox.config_map("b", "1")];
    let inventory = Inventory::load(&sandbox.kube, &sandbox.namespace).await.unwrap();
    inventory.apply("web", &objects, options(), &|_| {}, &|_| {}).await.unwrap();
    let map = sandbox.reference("v1", "ConfigMap", INVENTORY);
    let before = sandbox.get(&map).await.unwrap().metadata.resource_version;

    let requests = sandbox.kube.requests();
    let inventory = Inventory::load(&sandbox.kube, &sandbox.namespace).await.unwrap();
    inventory.apply("web", &objects, options(), &|_| {}, &|_| {}).await.unwrap();
    // The inventory, one list, two patches.
    assert_eq!(sandbox.kube.requests() - requests, 4);
    assert_eq!(sandbox.get(&map).await.unwrap().metadata.resource_version, before);
}

#[tokio::test]
async fn the_namespace_is_made_for_the_inventory() {
    let kube = control_plane().connect().await;
    let inventory = Inventory::load(&kube, "made-for-inventory").await.unwrap();
    let object = ObjectRef::cluster("rbac.authorization.k8s.io/v1", "ClusterRole", "made-for-inventory");
    // Two parts at the same time: neither may lose the other's key.
    let (a, b) = tokio::join!(
        inventory.record("operator", std::slice::from_ref(&object)),
        inventory.record("autoscaling", std::slice::from_ref(&object)),
    );
    a.and(b).unwrap();
    let again = Inventory::load(&kube, "made-for-inventory").await.unwrap();
    assert_eq!(again.parts(), ["autoscaling", "operator"]);
}

#[tokio::test]
async fn what_was_there_before_is_adopted_and_never_deleted() {
    let sandbox = sandbox("adopted").await;
    create(&sandbox.kube, serde_json::to_value(sandbox.object("v1", "ConfigMap", "old", json!({}))).unwrap()).await;
    let objects = [sandbox.config_map("old", "1"), sandbox.config_map("new", "1")];
    let inventory = Inventory::load(&sandbox.kube, &sandbox.namespace).await.unwrap();
    inventory.apply("web", &objects, options(), &|_| {}, &|_| {}).await.unwrap();

    let kept = Mutex::new(Vec::new());
    let on = |event: DeleteEvent| {
        if let DeleteEvent::Kept(object, _) = event {
            kept.lock().unwrap().push(object.name);
        }
    };
    let inventory = Inventory::load(&sandbox.kube, &sandbox.namespace).await.unwrap();
    inventory.delete("web", &|_| false, soon(), &on).await.unwrap();
    assert_eq!(*kept.lock().unwrap(), ["old"]);
    assert!(sandbox.get(&sandbox.reference("v1", "ConfigMap", "old")).await.is_some());
    assert!(sandbox.get(&sandbox.reference("v1", "ConfigMap", "new")).await.is_none());
    let map = sandbox.reference("v1", "ConfigMap", INVENTORY);
    assert!(sandbox.get(&map).await.is_none(), "the inventory goes with its last part");
}

#[tokio::test]
async fn what_is_to_be_kept_stays_recorded() {
    let sandbox = sandbox("keep").await;
    let objects = [sandbox.config_map("data", "1"), sandbox.config_map("rest", "1")];
    let inventory = Inventory::load(&sandbox.kube, &sandbox.namespace).await.unwrap();
    inventory.apply("database", &objects, options(), &|_| {}, &|_| {}).await.unwrap();
    inventory.delete("database", &|object| object.name == "data", soon(), &|_| {}).await.unwrap();
    let again = Inventory::load(&sandbox.kube, &sandbox.namespace).await.unwrap();
    let names: Vec<_> = again.entries("database").into_iter().map(|entry| entry.object.name).collect();
    assert_eq!(names, ["data"]);
    assert!(sandbox.get(&sandbox.reference("v1", "ConfigMap", "data")).await.is_some());
    assert!(sandbox.get(&sandbox.reference("v1", "ConfigMap", "rest")).await.is_none());
}

#[tokio::test]
async fn what_cannot_be_deleted_says_what_holds_it() {
    let sandbox = sandbox("held").await;
    let mut object = sandbox.config_map("held", "1");
    object.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    let inventory = Inventory::load(&sandbox.kube, &sandbox.namespace).await.unwrap();
    inventory.apply("web", &[object], options(), &|_| {}, &|_| {}).await.unwrap();
    let error = inventory.delete("web", &|_| false, soon(), &|_| {}).await.unwrap_err();
    assert_eq!(stackctl::error::kind_of(&error).exit_code(), 5);
    let text = words(&error);
    assert!(text.contains("held by the finalizer example.com/hold") && text.contains("remove the finalizer"), "{text}");
    // It is still on record for the next attempt.
    let again = Inventory::load(&sandbox.kube, &sandbox.namespace).await.unwrap();
    assert_eq!(again.entries("web").len(), 1);
}

#[tokio::test]
async fn a_damaged_inventory_is_named() {
    let sandbox = sandbox("damaged").await;
    create(
        &sandbox.kube,
        serde_json::to_value(sandbox.object("v1", "ConfigMap", INVENTORY, json!({"data": {"web": "?"}}))).unwrap(),
    )
    .await;
    let error = Inventory::load(&sandbox.kube, &sandbox.namespace).await.err().unwrap();
    let text = words(&error);
    assert!(text.contains("damaged at web") && text.contains("test-damaged/stackctl-inventory"), "{text}");
}

#[tokio::test]
async fn databases_change_places_in_one_write_and_neither_is_pruned() {
    let sandbox = sandbox("exchange").await;
    let inventory = Inventory::load(&sandbox.kube, &sandbox.namespace).await.unwrap();
    // In the places of two Clusters.
    let (first, second) = (sandbox.config_map("first", "1"), sandbox.config_map("second", "1"));
    let named = |name: &str| sandbox.reference("v1", "ConfigMap", name);
    inventory.apply("database", std::slice::from_ref(&first), options(), &|_| {}, &|_| {}).await.unwrap();
    inventory.apply("restored", std::slice::from_ref(&second), options(), &|_| {}, &|_| {}).await.unwrap();
    assert_eq!(inventory.database(), None);
    inventory.exchange("restored", "database", &named("second"), &named("first")).await.unwrap();

    // Another run reads what this one wrote, and applies the database's part without the first.
    let inventory = Inventory::load(&sandbox.kube, &sandbox.namespace).await.unwrap();
    assert_eq!(inventory.database().as_deref(), Some("second"));
    inventory.apply("database", &[second], options(), &|_| {}, &|_| {}).await.unwrap();
    assert!(sandbox.get(&named("first")).await.is_some(), "the former one is kept");
    let names = |part: &str| inventory.entries(part).into_iter().map(|entry| entry.object.name).collect::<Vec<_>>();
    assert_eq!((names("database"), names("restored")), (vec!["second".to_owned()], vec!["first".to_owned()]));

    // And back again.
    inventory.exchange("restored", "database", &named("first"), &named("second")).await.unwrap();
    let inventory = Inventory::load(&sandbox.kube, &sandbox.namespace).await.unwrap();
    assert_eq!(inventory.database().as_deref(), Some("first"));
}

#[tokio::test]
async fn what_another_stack_uses_goes_with_its_last_user() {
    let (a, b) = (sandbox("shared-a").await, sandbox("shared-b").await);
    let role = |name: &str| {
        let text = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                          "metadata": {"name": name}, "rules": []});
        serde_json::from_value::<kube::api::DynamicObject>(text).unwrap()
    };
    let named = |name: &str| ObjectRef::cluster("rbac.authorization.k8s.io/v1", "ClusterRole", name);
    let (both, alone) = (role("stackctl-test-both"), role("stackctl-test-alone"));
    let of_a = Inventory::load(&a.kube, &a.namespace).await.unwrap();
    let of_b = Inventory::load(&b.kube, &b.namespace).await.unwrap();
    of_a.apply("backup", std::slice::from_ref(&both), options(), &|_| {}, &|_| {}).await.unwrap();
    of_b.apply("backup", &[both, alone], options(), &|_| {}, &|_| {}).await.unwrap();

    let kept = Mutex::new(Vec::new());
    let on = |event: DeleteEvent| {
        if let DeleteEvent::Kept(object, why) = event {
            kept.lock().unwrap().push((object.name, why));
        }
    };
    of_b.delete("backup", &|_| false, soon(), &on).await.unwrap();
    let why = format!("the stack in {} also uses it", a.namespace);
    assert_eq!(*kept.lock().unwrap(), [("stackctl-test-both".to_owned(), why)]);
    assert!(a.get(&named("stackctl-test-both")).await.is_some(), "the other stack was disarmed");
    assert!(a.get(&named("stackctl-test-alone")).await.is_none());
    assert!(of_b.entries("backup").is_empty(), "it is no user any more");

    of_a.delete("backup", &|_| false, soon(), &on).await.unwrap();
    assert!(a.get(&named("stackctl-test-both")).await.is_none(), "it goes with its last user");
}

#[tokio::test]
async fn what_stacks_share_says_so_itself() {
    let (a, b) = (sandbox("marks-a").await, sandbox("marks-b").await);
    let name = "stackctl-test-marks";
    let role: kube::api::DynamicObject = serde_json::from_value(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": []}))
    .unwrap();
    let named = ObjectRef::cluster("rbac.authorization.k8s.io/v1", "ClusterRole", name);
    let users = async || {
        let annotations = a.get(&named).await.unwrap().metadata.annotations.unwrap_or_default();
        let users = annotations.keys().filter_map(|key| key.strip_prefix("stackctl-used-by/").map(str::to_owned));
        users.collect::<Vec<_>>()
    };
    let apply = async |sandbox: &Sandbox| {
        let inventory = Inventory::load(&sandbox.kube, &sandbox.namespace).await.unwrap();
        inventory.apply("backup", std::slice::from_ref(&role), options(), &|_| {}, &|_| {}).await.unwrap();
        inventory
    };
    apply(&a).await;
    assert_eq!(users().await, [a.namespace.as_str()]);
    let of_b = apply(&b).await;
    assert_eq!(users().await, [a.namespace.as_str(), b.namespace.as_str()], "neither takes the other's away");

    // The first one's inventory is lost: the object knows.
    let map = a.reference("v1", "ConfigMap", INVENTORY);
    a.kube.api(&map).await.unwrap().delete(INVENTORY, &kube::api::DeleteParams::default()).await.unwrap();
    of_b.delete("backup", &|_| false, soon(), &|_| {}).await.unwrap();
    assert_eq!(users().await, [a.namespace.as_str()]);
    apply(&a).await.delete("backup", &|_| false, soon(), &|_| {}).await.unwrap();
    assert!(a.get(&named).await.is_none(), "it goes with its last user");
}

#[tokio::test]
async fn what_was_adopted_is_kept_when_the_inventory_was_lost_and_made_anew() {
    let sandbox = sandbox("adopted-lost").await;
    create(&sandbox.kube, serde_json::to_value(sandbox.object("v1", "ConfigMap", "old", json!({}))).unwrap()).await;
    let objects = [sandbox.config_map("old", "1"), sandbox.config_map("new", "1")];
    let inventory = Inventory::load(&sandbox.kube, &sandbox.namespace).await.unwrap();
    inventory.apply("web", &objects, options(), &|_| {}, &|_| {}).await.unwrap();

    let map = sandbox.reference("v1", "ConfigMap", INVENTORY);
    sandbox.kube.api(&map).await.unwrap().delete(INVENTORY, &kube::api::DeleteParams::default()).await.unwrap();
    let inventory = Inventory::load(&sandbox.kube, &sandbox.namespace).await.unwrap();
    let version = async || sandbox.get(&sandbox.reference("v1", "ConfigMap", "old")).await.unwrap().metadata;
    let before = version().await.resource_version;
    inventory.apply("web", &objects, options(), &|_| {}, &|_| {}).await.unwrap();
    assert_eq!(version().await.resource_version, before, "the mark is written once");
    inventory.delete("web", &|_| false, soon(), &|_| {}).await.unwrap();
    assert!(sandbox.get(&sandbox.reference("v1", "ConfigMap", "old")).await.is_some(), "it was somebody else's");
    assert!(sandbox.get(&sandbox.reference("v1", "ConfigMap", "new")).await.is_none());
}

#[tokio::test]
async fn a_namespace_that_was_there_keeps_its_labels_and_stays() {
    const LEVEL: &str = "pod-security.kubernetes.io/enforce";
    let kube = control_plane().connect().await;
    let namespace = |level: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "was-there", "labels": {LEVEL: level}}});
    create(&kube, namespace("privileged")).await;
    let wanted: kube::api::DynamicObject = serde_json::from_value(namespace("restricted")).unwrap();
    let inventory = Inventory::load(&kube, "was-there").await.unwrap();
    inventory.apply("base", &[wanted], options(), &|_| {}, &|_| {}).await.unwrap();
    inventory.delete("base", &|_| false, soon(), &|_| {}).await.unwrap();
    let found = kube.get(&ObjectRef::cluster("v1", "Namespace", "was-there")).await.unwrap().unwrap();
    assert_eq!(found.metadata.labels.unwrap()[LEVEL], "privileged");
    assert!(found.metadata.deletion_timestamp.is_none());
}
