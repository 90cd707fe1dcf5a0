//! The PriorityClass of what a failover needs: whether it can be had is told before anything is changed.

use serde_json::json;
use stackctl::{
    cli::{Global, StackArgs, UpArgs},
    config::{Config, Options},
    context::Context,
    desired::priority,
    ui::Reporter,
};

use crate::harness::{control_plane, create, words};

fn context(token: &str, class: Option<&str>) -> Context {
    let global = Global {
        kubeconfig: Some(control_plane().kubeconfig(token, |_| {})),
        context: Some("test".into()),
        namespace: Some("priority".into()),
        ..Global::default()
    };
    let stack = StackArgs { priority_class: class.map(str::to_owned), ..StackArgs::default() };
    let up = UpArgs { stack, ..UpArgs::default() };
    let config = Config::load(&global, &Options { up: Some(&up), ..Options::default() }).unwrap();
    Context::new(config, Reporter::discard()).unwrap()
}

async fn lack(token: &str, class: Option<&str>) -> Option<String> {
    priority::lack(&context(token, class)).await.unwrap().map(|lack| words(&lack.into()))
}

#[tokio::test]
async fn a_class_that_cannot_be_had_is_told_with_what_to_do() {
    assert_eq!(lack("admin-token", None).await, None, "an administrator makes our own");
    // Who may do nothing in the whole cluster finds it there; who may do all else is told.
    assert_eq!(lack("weak-token", None).await, None);
    let kube = control_plane().connect().await;
    let all_else = [
        ("", "namespaces"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("rbac.authorization.k8s.io", "clusterroles"),
        ("rbac.authorization.k8s.io", "clusterrolebindings"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ];
    let rules =
        all_else.map(|(group, resource)| json!({"apiGroups": [group], "resources": [resource], "verbs": ["patch"]}));
    let (api, name) = ("rbac.authorization.k8s.io", json!({"name": "all-but-priorities"}));
    create(&kube, json!({"apiVersion": format!("{api}/v1"), "kind": "ClusterRole", "metadata": name, "rules": rules}))
        .await;
    create(
        &kube,
        json!({"apiVersion": format!("{api}/v1"), "kind": "ClusterRoleBinding", "metadata": name,
            "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": "all-but-priorities"},
            "subjects": [{"apiGroup": api, "kind": "User", "name": "partial"}]}),
    )
    .await;
    let told = lack("partial-token", None).await.unwrap();
    assert!(told.contains("you may not patch priorityclasses") && told.contains("--priority-class none"), "{told}");
    assert_eq!(lack("partial-token", Some("none")).await, None);

    let told = lack("admin-token", Some("databases")).await.unwrap();
    assert!(told.contains("there is no PriorityClass databases"), "{told}");
    assert!(told.contains("kubectl create priorityclass databases --value=1000000"), "{told}");
    assert_eq!(lack("weak-token", Some("databases")).await, None, "who may not look is believed");
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 7,
        "metadata": {"name": "databases"}});
    create(&control_plane().connect().await, class).await;
    assert_eq!(lack("admin-token", Some("databases")).await, None);
    assert_eq!(lack("admin-token", Some("system-cluster-critical")).await, None, "every cluster has it");
}
