//! The app's address on a real API server: what the cluster lacks for it is told before anything is changed, and it is made,
//! changed and taken away like the rest of the stack.

use base64::Engine as _;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use stackctl::{
    assets::Part,
    cli::{Global, StackArgs, UpArgs},
    config::{Config, Options},
    context::Context,
    desired,
    kube::{Kube, ObjectRef},
    phases::part,
    ui::{PhaseId, Reporter},
};

use crate::harness::{ControlPlane, create, words};

const STACK: &str = "addressed";
const HOST: &str = "app.example.com";

fn context(plane: &ControlPlane, change: impl FnOnce(&mut StackArgs)) -> Context {
    let global = Global {
        kubeconfig: Some(plane.kubeconfig("admin-token", |_| {})),
        context: Some("test".into()),
        namespace: Some(STACK.into()),
        ..Global::default()
    };
    let mut stack = StackArgs { registry: Some("r.example.com/x".into()), ..StackArgs::default() };
    change(&mut stack);
    let arguments = UpArgs { stack, ..UpArgs::default() };
    let config = Config::load(&global, &Options { up: Some(&arguments), ..Options::default() }).unwrap();
    Context::new(config, Reporter::discard()).unwrap()
}

fn hosted(plane: &ControlPlane, change: impl FnOnce(&mut StackArgs)) -> Context {
    context(plane, |stack| {
        stack.host = Some(HOST.into());
        change(stack);
    })
}

/// What `up` says of the address before it changes anything: what users type, or why they cannot.
async fn told(plane: &ControlPlane, change: impl FnOnce(&mut StackArgs)) -> Result<String, String> {
    let told = desired::address::check(&hosted(plane, change)).await;
    told.map(Option::unwrap).map_err(|error| words(&error))
}

async fn refusal(plane: &ControlPlane, change: impl FnOnce(&mut StackArgs)) -> String {
    told(plane, change).await.unwrap_err()
}

async fn class(kube: &Kube, name: &str, is_default: bool) {
    let annotations = json!({"ingressclass.kubernetes.io/is-default-class": is_default.to_string()});
    let metadata = json!({"name": name, "annotations": annotations});
    let spec = json!({"controller": "example.com/nobody"});
    create(
        kube,
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": metadata, "spec": spec}),
    )
    .await;
}

async fn secret(kube: &Kube, name: &str, kind: &str, host: &str) {
    let made = rcgen::generate_simple_self_signed(vec![host.to_owned()]).unwrap();
    let encoded = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
    let data = json!({"tls.crt": encoded(made.cert.pem()), "tls.key": encoded(made.signing_key.serialize_pem())});
    let metadata = json!({"name": name, "namespace": STACK});
    create(kube, json!({"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": metadata, "data": data})).await;
}

/// Makes a kind known whose objects may be of any form.
async fn kind(kube: &Kube, group: &str, kind: &str, scope: &str) {
    let plural = format!("{}s", kind.to_lowercase());
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let version =
        json!({"name": "v1", "served": true, "storage": true, "schema": schema, "subresources": {"status": {}}});
    let name = format!("{plural}.{group}");
    create(
        kube,
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {
                "name": name,
                "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
            },
            "spec": {
                "group": group, "scope": scope, "versions": [version],
                "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind},
            },
        }),
    )
    .await;
    let reference = ObjectRef::cluster("apiextensions.k8s.io/v1", "CustomResourceDefinition", &name);
    for _ in 0..100 {
        let live = kube.get(&reference).await.unwrap().unwrap();
        let conditions = live.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if conditions.iter().any(|one| one["type"] == "Established" && one["status"] == "True") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{name} is not established");
}

async fn namespace(kube: &Kube, name: &str) {
    create(kube, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await;
}

async fn live(kube: &Kube, api_version: &str, kind: &str) -> Option<DynamicObject> {
    kube.get(&ObjectRef::namespaced(api_version, kind, STACK, "user-app")).await.unwrap()
}

async fn up(cx: &Context) -> usize {
    part::apply(cx, PhaseId::Web, Part::Web).await.unwrap().changed
}

/// The value of a variable of the app, as it is in the cluster.
async fn variable(kube: &Kube, name: &str) -> Option<String> {
    let deployment = live(kube, "apps/v1", "Deployment").await.unwrap();
    let all = deployment.data.pointer("/spec/template/spec/containers/0/env").unwrap().as_array().unwrap().clone();
    all.iter().find(|one| one["name"] == name).map(|one| one["value"].as_str().unwrap().to_owned())
}

/// On control planes of their own: classes and kinds are the whole cluster's.
#[tokio::test]
async fn what_an_ingress_lacks_is_told_and_with_all_of_it_the_ingress_is_made_and_taken_away() {
    let plane = ControlPlane::of_its_own();
    let kube = plane.connect().await;
    let without = refusal(&plane, |_| {}).await;
    assert!(without.contains("no IngressClass") && without.contains("--gateway"), "{without}");
    class(&kube, "edge", false).await;
    assert_eq!(told(&plane, |_| {}).await.unwrap(), "http://app.example.com");
    class(&kube, "inner", false).await;
    let several = refusal(&plane, |_| {}).await;
    assert!(several.contains("(edge, inner)") && several.contains("--ingress-class edge"), "{several}");
    let unknown = refusal(&plane, |stack| stack.ingress_class = Some("x".into())).await;
    assert!(unknown.contains("no IngressClass x"), "{unknown}");

    let with_secret = |name: &str| {
        let name = name.to_owned();
        move |stack: &mut StackArgs| {
            stack.ingress_class = Some("inner".into());
            stack.tls_secret = Some(name);
        }
    };
    let absent = refusal(&plane, with_secret("mine")).await;
    assert!(absent.contains("Secret addressed/mine") && absent.contains("create namespace addressed"), "{absent}");
    namespace(&kube, STACK).await;
    for (name, kind, host) in [
        ("mine", "kubernetes.io/tls", HOST),
        ("opaque", "Opaque", HOST),
        ("other", "kubernetes.io/tls", "www.example.com"),
    ] {
        secret(&kube, name, kind, host).await;
    }
    assert!(refusal(&plane, with_secret("opaque")).await.contains("is of type Opaque, not kubernetes.io/tls"));
    let other = refusal(&plane, with_secret("other")).await;
    assert!(other.contains("for www.example.com, not for app.example.com") && other.contains("kubectl"), "{other}");
    assert_eq!(told(&plane, with_secret("mine")).await.unwrap(), "https://app.example.com");

    // Made; applied again it changes nothing.
    assert_ne!(up(&hosted(&plane, with_secret("mine"))).await, 0);
    assert_eq!(up(&hosted(&plane, with_secret("mine"))).await, 0);
    let ingress = live(&kube, "networking.k8s.io/v1", "Ingress").await.unwrap();
    assert_eq!(ingress.data["spec"]["ingressClassName"], "inner");
    assert_eq!(ingress.data["spec"]["tls"][0], json!({"hosts": [HOST], "secretName": "mine"}));
    assert_eq!(variable(&kube, "PUBLIC_URL").await.as_deref(), Some("https://app.example.com"));
    // The class that it has stays, though several are there and none is the default.
    assert_eq!(told(&plane, |_| {}).await.unwrap(), "http://app.example.com");

    let issuer = |name: &str| {
        let name = name.to_owned();
        move |stack: &mut StackArgs| stack.tls_issuer = Some(name)
    };
    let manager = refusal(&plane, issuer("ca")).await;
    assert!(manager.contains("needs cert-manager") && manager.contains("--tls-secret"), "{manager}");
    kind(&kube, "cert-manager.io", "ClusterIssuer", "Cluster").await;
    assert!(refusal(&plane, issuer("ca")).await.contains("ClusterIssuer ca, which --tls-issuer names, is not there"));
    create(&kube, json!({"apiVersion": "cert-manager.io/v1", "kind": "ClusterIssuer", "metadata": {"name": "ca"}}))
        .await;
    assert_ne!(up(&hosted(&plane, issuer("ca"))).await, 0);
    let ingress = live(&kube, "networking.k8s.io/v1", "Ingress").await.unwrap();
    assert_eq!(ingress.metadata.annotations.unwrap()["cert-manager.io/cluster-issuer"], "ca");
    assert_eq!(ingress.data["spec"]["tls"][0]["secretName"], "user-app-tls");

    // Without --host it goes, and with it what proxies came to.
    assert_ne!(up(&context(&plane, |_| {})).await, 0);
    assert!(live(&kube, "networking.k8s.io/v1", "Ingress").await.is_none());
    assert_eq!(variable(&kube, "PUBLIC_URL").await, None);
    let service = live(&kube, "v1", "Service").await.unwrap();
    let ports: Vec<&Value> =
        service.data["spec"]["ports"].as_array().unwrap().iter().map(|port| &port["name"]).collect();
    assert_eq!(ports, ["http"]);
}

#[tokio::test]
async fn a_gateway_leads_to_the_app_if_one_of_its_listeners_takes_the_route() {
    let plane = ControlPlane::of_its_own();
    let kube = plane.connect().await;
    let gateway = |stack: &mut StackArgs| stack.gateway = Some("infra/public".into());
    let unknown = refusal(&plane, gateway).await;
    assert!(unknown.contains("kind Gateway") && unknown.contains("leave out --gateway"), "{unknown}");
    for of in ["Gateway", "HTTPRoute"] {
        kind(&kube, "gateway.networking.k8s.io", of, "Namespaced").await;
    }
    for name in ["infra", STACK] {
        namespace(&kube, name).await;
    }
    let absent = refusal(&plane, gateway).await;
    assert!(absent.contains("Gateway infra/public, which --gateway names, is not there"), "{absent}");
    let listener = json!({"name": "web", "protocol": "HTTPS", "port": 443, "hostname": "*.example.com"});
    let mut made = create(
        &kube,
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "public", "namespace": "infra"},
            "spec": {"gatewayClassName": "x", "listeners": [listener]},
        }),
    )
    .await;
    let closed = refusal(&plane, gateway).await;
    assert!(closed.contains("web (HTTPS, *.example.com, routes from Same)"), "{closed}");
    made.data["spec"]["listeners"][0]["allowedRoutes"] = json!({"namespaces": {
        "from": "Selector", "selector": {"matchLabels": {"kubernetes.io/metadata.name": STACK}},
    }});
    let api = kube.api(&ObjectRef::of(&made).unwrap()).await.unwrap();
    api.replace("public", &kube::api::PostParams::default(), &made).await.unwrap();
    assert_eq!(told(&plane, gateway).await.unwrap(), "https://app.example.com");

    assert_ne!(up(&hosted(&plane, gateway)).await, 0);
    assert_eq!(up(&hosted(&plane, gateway)).await, 0);
    let route = live(&kube, "gateway.networking.k8s.io/v1", "HTTPRoute").await.unwrap();
    assert_eq!(route.data["spec"]["hostnames"], json!([HOST]));
    assert_eq!(variable(&kube, "PUBLIC_URL").await.as_deref(), Some("https://app.example.com"));

    // An Ingress takes the place of the route.
    class(&kube, "edge", true).await;
    assert_ne!(up(&hosted(&plane, |_| {})).await, 0);
    assert!(live(&kube, "gateway.networking.k8s.io/v1", "HTTPRoute").await.is_none());
    let ingress = live(&kube, "networking.k8s.io/v1", "Ingress").await.unwrap();
    assert_eq!(ingress.data["spec"]["ingressClassName"], "edge");
}
