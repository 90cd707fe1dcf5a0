use serde_json::json;
use stackctl::{
    cli::{Global, Optional},
    config::{Config, Options},
    context::Context,
    desired,
    kube::{Change, ObjectRef, apply},
    phases::{Need, Phase, monitoring},
    ui::Reporter,
};

use crate::harness::{ControlPlane, create, options};

fn context(plane: &ControlPlane, without: &[Optional]) -> Context {
    let kubeconfig = Some(plane.kubeconfig("admin-token", |_| {}));
    let global = Global { kubeconfig, context: Some("test".into()), ..Global::default() };
    let mut config = Config::load(&global, &Options::default()).unwrap();
    config.without = without.to_vec();
    Context::new(config, Reporter::discard()).unwrap()
}

async fn kinds(cx: &Context) -> Vec<String> {
    let objects = desired::monitoring::objects(cx).await.unwrap();
    let mut kinds: Vec<String> = objects.iter().map(|object| object.types.as_ref().unwrap().kind.clone()).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

async fn needed(cx: &Context) -> Need {
    monitoring::Monitoring.needed(cx).await.unwrap()
}

/// A kind of the Prometheus operator, as far as it takes to store objects of it.
fn definition(kind: &str, plural: &str) -> serde_json::Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.monitoring.coreos.com")},
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}],
        },
    })
}

/// One test, on a control plane of its own: it is about what is in the whole cluster.
#[tokio::test]
async fn monitoring_fits_the_cluster() {
    let plane = ControlPlane::of_its_own();
    let kube = plane.connect().await;
    for namespace in ["user-app", "cnpg-system"] {
        create(&kube, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).await;
    }

    // A cluster with nothing: ours, without what only the Prometheus operator knows.
    let cx = context(&plane, &[]);
    assert_eq!(needed(&cx).await, Need::Run);
    let ours = kinds(&cx).await;
    assert!(ours.contains(&"StatefulSet".into()) && ours.contains(&"Secret".into()), "{ours:?}");
    assert!(!ours.iter().any(|kind| ["PodMonitor", "PrometheusRule"].contains(&kind.as_str())), "{ours:?}");
    assert_eq!(kinds(&context(&plane, &[Optional::Monitoring])).await, Vec::<String>::new());

    // A second run changes nothing, the password above all.
    let objects = desired::monitoring::objects(&cx).await.unwrap();
    apply(&kube, &objects, options(), &|_| {}).await.unwrap();
    let login = ObjectRef::namespaced("v1", "Secret", "monitoring", "monitoring-grafana-admin");
    let first = kube.get(&login).await.unwrap().unwrap();
    let again = desired::monitoring::objects(&cx).await.unwrap();
    let changes = apply(&kube, &again, options(), &|_| {}).await.unwrap();
    assert!(changes.iter().all(|(_, change)| *change == Change::Unchanged), "{changes:?}");
    let second = kube.get(&login).await.unwrap().unwrap();
    assert_eq!(first.metadata.resource_version, second.metadata.resource_version);
    assert_eq!(first.data["data"]["admin-user"], "YWRtaW4=");

    // A namespace that is somebody else's is left alone.
    let namespace = ObjectRef::cluster("v1", "Namespace", "monitoring");
    let api = kube.api(&namespace).await.unwrap();
    let patch = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "helm"}}});
    api.patch("monitoring", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(patch)).await.unwrap();
    let cx = context(&plane, &[]);
    assert_eq!(kinds(&cx).await, Vec::<String>::new());
    let Need::Skip(why) = needed(&cx).await else { panic!("it would be installed") };
    assert!(why.contains("a namespace monitoring that stackctl did not make"), "{why}");

    // Where the Prometheus operator is, it is told what to scrape and when to alert all the same.
    for (kind, plural) in [("PodMonitor", "podmonitors"), ("PrometheusRule", "prometheusrules")] {
        let definition = serde_json::from_value(definition(kind, plural)).unwrap();
        apply(&kube, &[definition], options(), &|_| {}).await.unwrap();
    }
    let cx = context(&plane, &[]);
    assert_eq!(needed(&cx).await, Need::Run);
    assert_eq!(kinds(&cx).await, ["PodMonitor", "PrometheusRule"]);
    let objects = desired::monitoring::objects(&cx).await.unwrap();
    let changes = apply(&kube, &objects, options(), &|_| {}).await.unwrap();
    assert_eq!(changes.len(), 4, "{changes:?}");
    assert!(changes.iter().all(|(_, change)| *change == Change::Created), "{changes:?}");

    // Its Prometheus selects by labels: they get them, and where it does not look, that is told.
    let definition = serde_json::from_value(definition("Prometheus", "prometheuses")).unwrap();
    apply(&kube, &[definition], options(), &|_| {}).await.unwrap();
    let selector = json!({"matchLabels": {"release": "main"}});
    create(
        &kube,
        json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus",
        "metadata": {"name": "main", "namespace": "cnpg-system"}, "spec": {"podMonitorSelector": selector,
        "podMonitorNamespaceSelector": {}, "ruleSelector": selector}}),
    )
    .await;
    let cx = context(&plane, &[]);
    let mut objects = desired::monitoring::objects(&cx).await.unwrap();
    for object in &objects {
        let wanted = (object.types.as_ref().unwrap().kind == "PodMonitor").then_some("main");
        assert_eq!(object.metadata.labels.as_ref().unwrap().get("release").map(String::as_str), wanted);
    }
    let missed = desired::picked_up::label(&cx, &mut objects).await.unwrap();
    let expected = "nobody picks up the PrometheusRules of namespace user-app: \
                    Prometheus cnpg-system/main does not look into it";
    assert_eq!(missed, [expected]);
}
