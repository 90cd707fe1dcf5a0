use kube::api::{Patch, PatchParams};
use serde_json::json;
use stackctl::kube::{ObjectRef, operator_in_use, room::Room};

use crate::{
    harness::{create, sandbox, set_status},
    manifests::operators_kinds,
};

#[tokio::test]
async fn databases_that_the_operator_runs_are_named() {
    let sandbox = sandbox("in-use").await;
    operators_kinds(&sandbox.kube).await;
    let spec = json!({"spec": {"instances": 1, "storage": {"size": "1Gi"}}});
    sandbox.apply(&[sandbox.object("postgresql.cnpg.io/v1", "Cluster", "orders", spec)]).await.unwrap();
    // Other tests have databases too, at the same time.
    let text = operator_in_use(&sandbox.kube).await.unwrap().expect("there is one");
    assert!(text.contains("Cluster test-in-use/orders"), "{text}");
}

#[tokio::test]
async fn the_room_on_a_node_is_what_it_has_without_what_its_pods_ask_for() {
    let sandbox = sandbox("room").await;
    create(&sandbox.kube, json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "roomy"}})).await;
    // A node that is made is tainted until a controller has seen it ready, and there is none.
    let node = ObjectRef::cluster("v1", "Node", "roomy");
    let untainted = Patch::Merge(json!({"spec": {"taints": null}}));
    sandbox.kube.api(&node).await.unwrap().patch("roomy", &PatchParams::default(), &untainted).await.unwrap();
    let allocatable = json!({"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "10"}});
    set_status(&sandbox.kube, &node, allocatable).await;
    for (name, node) in [("here", Some("roomy")), ("nowhere", None)] {
        let resources = json!({"requests": {"cpu": "250m", "memory": "1Gi"}});
        let spec = json!({"nodeName": node, "containers": [{"name": "a", "image": "a", "resources": resources}]});
        let pod = sandbox.object("v1", "Pod", name, json!({"spec": spec}));
        create(&sandbox.kube, serde_json::to_value(pod).unwrap()).await;
    }
    let room = Room::read(&sandbox.kube, &[]).await.unwrap();
    assert_eq!(room.nodes["roomy"].to_string(), "1.75 CPUs and 3.0 GiB");
}
