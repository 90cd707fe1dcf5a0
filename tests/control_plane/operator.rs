use futures::future::LocalBoxFuture;
use serde_json::{Value, json};
use stackctl::{
    cli::{Global, UpArgs},
    config::{Config, Options},
    context::Context,
    kube::{Kube, ObjectRef},
    phases::{Need, Phase, claim::Claim, operator::Operator},
    ui::Reporter,
};

use crate::harness::{ControlPlane, create, words};

const STACK: &str = "user-app";

fn nothing_first(_: &Context) -> LocalBoxFuture<'_, anyhow::Result<()>> {
    Box::pin(async { Ok(()) })
}

/// What `up` works with on this control plane, for a user with this token.
fn context(plane: &ControlPlane, token: &str, arguments: &UpArgs) -> Context {
    let global = Global {
        kubeconfig: Some(plane.kubeconfig(token, |_| {})),
        context: Some("test".into()),
        namespace: Some(STACK.into()),
        ..Global::default()
    };
    let config = Config::load(&global, &Options { up: Some(arguments), ..Options::default() }).unwrap();
    Context::new(config, Reporter::discard()).unwrap()
}

async fn claim(plane: &ControlPlane) -> anyhow::Result<String> {
    claim_with(plane, &UpArgs::default()).await
}

/// Claims the stack and lets it go again.
async fn claim_with(plane: &ControlPlane, arguments: &UpArgs) -> anyhow::Result<String> {
    let cx = context(plane, "admin-token", arguments);
    let phase = Claim { first: nothing_first };
    let outcome = async {
        phase.needed(&cx).await?;
        phase.run(&cx).await
    };
    let outcome = outcome.await;
    cx.unlock().await;
    outcome
}

async fn is_untouched(kube: &Kube) -> bool {
    kube.get(&ObjectRef::cluster("v1", "Namespace", STACK)).await.unwrap().is_none()
}

fn deployment(labels: &Value, image: &str) -> Value {
    let pod = json!({"app": "operator"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "cnpg-controller-manager", "namespace": "cnpg", "labels": labels},
        "spec": {
            "selector": {"matchLabels": pod},
            "template": {"metadata": {"labels": pod}, "spec": {"containers": [{
                "name": "manager", "image": image, "args": ["controller", "--config-map-name=settings"],
            }]}},
        },
    })
}

async fn remove(kube: &Kube, api_version: &str, kind: &str, namespace: Option<&str>, name: &str) {
    let object = match namespace {
        Some(namespace) => ObjectRef::namespaced(api_version, kind, namespace, name),
        None => ObjectRef::cluster(api_version, kind, name),
    };
    kube.api(&object).await.unwrap().delete(name, &kube::api::DeleteParams::default()).await.unwrap();
}

/// On a control plane of its own: what is looked at is the whole cluster.
#[tokio::test]
async fn an_operator_of_somebody_elses_is_found_first_and_used_or_refused() {
    let plane = ControlPlane::of_its_own();
    let kube = plane.connect().await;
    create(&kube, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "cnpg"}})).await;

    // Remnants: the kinds, and nobody who serves them.
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    let names = json!({"kind": "Cluster", "plural": "clusters", "singular": "cluster", "listKind": "ClusterList"});
    create(
        &kube,
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "clusters.postgresql.cnpg.io"},
            "spec": {"group": "postgresql.cnpg.io", "scope": "Namespaced", "names": names, "versions": [version]},
        }),
    )
    .await;
    let text = words(&claim(&plane).await.unwrap_err());
    assert!(text.contains("no operator of CloudNativePG") && text.contains("nothing was changed"), "{text}");
    assert!(is_untouched(&kube).await, "{text}");

    // Too old, by whatever installer.
    create(&kube, deployment(&json!({"app.kubernetes.io/managed-by": "Helm"}), "mirror:5000/cnpg:1.26.0")).await;
    let text = words(&claim(&plane).await.unwrap_err());
    assert!(text.contains("CloudNativePG 1.26.0 (Deployment cnpg/cnpg-controller-manager)"), "{text}");
    assert!(is_untouched(&kube).await, "{text}");

    // New enough, but it watches other namespaces only.
    remove(&kube, "apps/v1", "Deployment", Some("cnpg"), "cnpg-controller-manager").await;
    let labels = json!({"app.kubernetes.io/name": "cloudnative-pg"});
    create(&kube, deployment(&labels, "mirror:5000/cnpg@sha256:0123")).await;
    let text = words(&claim(&plane).await.unwrap_err());
    assert!(text.contains("of a version that cannot be told"), "{text}");
    remove(&kube, "apps/v1", "Deployment", Some("cnpg"), "cnpg-controller-manager").await;
    create(&kube, deployment(&labels, "mirror:5000/cnpg:1.99.0")).await;
    create(
        &kube,
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "cnpg"},
            "data": {"WATCH_NAMESPACE": "shop, orders"},
        }),
    )
    .await;
    let text = words(&claim(&plane).await.unwrap_err());
    assert!(text.contains("it watches the namespaces shop, orders, and not user-app"), "{text}");
    assert!(is_untouched(&kube).await, "{text}");

    // One that fits is used.
    remove(&kube, "v1", "ConfigMap", Some("cnpg"), "settings").await;
    claim(&plane).await.unwrap();
    let cx = context(&plane, "admin-token", &UpArgs::default());
    let needed = Operator.needed(&cx).await.unwrap();
    assert!(matches!(&needed, Need::Skip(why) if why.contains("CloudNativePG 1.99.0")), "{needed:?}");
    let plugin = cx.kube().await.unwrap().operator().await.unwrap().plugin_reference();
    assert_eq!(plugin.to_string(), "Deployment cnpg/barman-cloud");

    // What the first `up` noted: a newer stackctl's stack is left alone unless that is asked for.
    let inventory = ObjectRef::namespaced("v1", "ConfigMap", STACK, stackctl::kube::INVENTORY);
    let noted = kube.get(&inventory).await.unwrap().unwrap().metadata.annotations.unwrap();
    let mut origin: Value = serde_json::from_str(&noted["stackctl/made-by"]).unwrap();
    assert_eq!(origin["stackctl"], env!("CARGO_PKG_VERSION"));
    assert_eq!(origin["source"], "the images' own registries");
    assert!(origin["components"]["postgresql"].is_string(), "{origin}");
    origin["stackctl"] = json!("99.0.0");
    let newer = json!({"metadata": {"annotations": {"stackctl/made-by": origin.to_string()}}});
    let maps = kube.api(&inventory).await.unwrap();
    maps.patch(stackctl::kube::INVENTORY, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(newer))
        .await
        .unwrap();
    let text = words(&claim(&plane).await.unwrap_err());
    assert!(text.contains("made by stackctl 99.0.0") && text.contains("--allow-downgrade"), "{text}");
    let allowed = UpArgs { allow_downgrade: true, ..UpArgs::default() };
    claim_with(&plane, &allowed).await.unwrap();
    claim(&plane).await.unwrap();

    // Who may not look into other namespaces, and may change nothing there, takes the administrators to have seen to it.
    let weak = stackctl::kube::Kube::connect(&plane.cluster("weak-token")).await.unwrap();
    assert!(weak.operator().await.unwrap().is_hidden);
}
