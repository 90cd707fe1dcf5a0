//! NetworkPolicies that nobody asked for: where others' are, and as long as the stack has them.

use kube::api::DeleteParams;
use serde_json::json;
use stackctl::{
    assets::Part,
    cli::{Global, Optional},
    config::{Config, Options},
    context::Context,
    desired,
    kube::Inventory,
    ui::Reporter,
};

use crate::harness::{Sandbox, control_plane, sandbox};

/// The policies of the stack that `up` would make.
async fn policies(sandbox: &Sandbox, without: &[Optional]) -> usize {
    let global = Global {
        kubeconfig: Some(control_plane().kubeconfig("admin-token", |_| {})),
        context: Some("test".into()),
        namespace: Some(sandbox.namespace.clone()),
        ..Global::default()
    };
    let mut config = Config::load(&global, &Options::default()).unwrap();
    config.without = without.to_vec();
    let cx = Context::new(config, Reporter::discard()).unwrap();
    let objects = desired::desired(&cx, Part::Base).await.unwrap();
    objects.iter().filter(|object| object.types.as_ref().is_some_and(|types| types.kind == "NetworkPolicy")).count()
}

#[tokio::test]
async fn where_others_have_policies_the_stack_has_its_own_and_keeps_them() {
    let sandbox = sandbox("policed").await;
    assert_eq!(policies(&sandbox, &[]).await, 0, "nobody enforces any");

    let spec = json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}});
    let deny = sandbox.object("networking.k8s.io/v1", "NetworkPolicy", "default-deny", spec);
    sandbox.apply(&[deny]).await.unwrap();
    assert_eq!(policies(&sandbox, &[]).await, 3);
    assert_eq!(policies(&sandbox, &[Optional::NetworkPolicies]).await, 0, "left out, as asked");

    // Up has made them; then nothing shows any more that they are of use, to whoever looks.
    let ours = sandbox.reference("networking.k8s.io/v1", "NetworkPolicy", "backup-reader");
    let inventory = Inventory::load(&sandbox.kube, &sandbox.namespace).await.unwrap();
    inventory.record(Part::Base.name(), &[ours]).await.unwrap();
    let theirs = sandbox.reference("networking.k8s.io/v1", "NetworkPolicy", "default-deny");
    let api = sandbox.kube.api(&theirs).await.unwrap();
    api.delete(&theirs.name, &DeleteParams::default()).await.unwrap();
    assert_eq!(policies(&sandbox, &[]).await, 3, "they were taken away on the strength of one answer");
    assert_eq!(policies(&sandbox, &[Optional::NetworkPolicies]).await, 0, "left out, as asked");
}
