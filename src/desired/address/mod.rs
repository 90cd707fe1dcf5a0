//! The app's address for the outside: what is added to its manifests, and what of it depends on the cluster.
//!
//! Proxies come to a port of their own, where the app believes them who the client is; who comes to the other one, from inside
//! the cluster, is neither believed nor led to https.

mod gateway;

use kube::{ResourceExt as _, core::DynamicObject};
use serde_json::{Value, json};

use crate::{
    address::{GATEWAY_API, INGRESS_API, ingress, unfit_certificate},
    assets::{Part, WRITTEN_FOR, kind},
    config::{Address, Entrance, Issuer, Tls},
    context::Context,
    error::{Failure, Result, failed},
    kube::{Kube, ObjectRef},
    names::{PUBLIC_URL, WEB},
};

/// The port, of the app and of its Service, that proxies come to; and its name.
const PORT: u16 = 8081;
const PORT_NAME: &str = "proxied";
/// The Secret that cert-manager puts the certificate into.
const ISSUED_SECRET: &str = "user-app-tls";
/// The API version of cert-manager's kinds.
const CERT_MANAGER_API: &str = "cert-manager.io/v1";
/// The variable by which the app knows what users type.
const URL_VARIABLE: &str = "PUBLIC_URL";

/// What of an address depends on the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AddressFacts {
    /// The class of the Ingress.
    class: Option<String>,
    /// What users type.
    url: String,
}

/// Adds to the manifests of the app, which are yet to be rendered, what an address needs.
pub(super) fn add(part: Part, objects: &mut Vec<DynamicObject>, address: Option<&Address>) -> Result<()> {
    let Some(address) = address.filter(|_| part == Part::Web) else { return Ok(()) };
    let push = |list: Option<&mut Value>, item: Value| {
        if let Some(list) = list.and_then(Value::as_array_mut) {
            list.push(item);
        }
    };
    for object in objects.iter_mut() {
        let data = &mut object.data;
        match object.types.as_ref().map_or("", |types| types.kind.as_str()) {
            "Deployment" => {
                let container = &mut data["spec"]["template"]["spec"]["containers"][0];
                let port = json!({"name": PORT_NAME, "containerPort": PORT, "protocol": "TCP"});
                push(container.get_mut("ports"), port);
                let mut variable =
                    |name: &str, value: &str| push(container.get_mut("env"), json!({"name": name, "value": value}));
                variable("PROXY_LISTEN", &format!("[::]:{PORT}"));
                variable(URL_VARIABLE, &url_before(address));
                if let Some(networks) = &address.proxies {
                    variable("TRUSTED_PROXIES", networks);
                }
            }
            "Service" => {
                let port = json!({
                    "name": PORT_NAME, "port": PORT, "targetPort": PORT_NAME, "protocol": "TCP", "appProtocol": "http",
                });
                push(data.pointer_mut("/spec/ports"), port);
            }
            "NetworkPolicy" => {
                push(data.pointer_mut("/spec/ingress/0/ports"), json!({"port": PORT, "protocol": "TCP"}));
            }
            _ => {}
        }
    }
    objects.push(way_to_app(address)?);
    Ok(())
}

/// What users type, as far as it is known without the cluster: whether a Gateway has a certificate is not.
fn url_before(address: &Address) -> String {
    let is_secure = matches!(&address.entrance, Entrance::Ingress { tls, .. } if *tls != Tls::None);
    format!("{}://{}", if is_secure { "https" } else { "http" }, address.host)
}

/// The Ingress or the HTTPRoute.
fn way_to_app(address: &Address) -> Result<DynamicObject> {
    let host = &address.host;
    let mut metadata = json!({
        "name": WEB, "namespace": WRITTEN_FOR, "annotations": {PUBLIC_URL: url_before(address)},
        "labels": {"app.kubernetes.io/name": WEB},
    });
    let object = match &address.entrance {
        Entrance::Ingress { class, tls } => {
            let backend = json!({"service": {"name": WEB, "port": {"name": PORT_NAME}}});
            let paths = json!([{"path": "/", "pathType": "Prefix", "backend": backend}]);
            let mut spec = json!({"rules": [{"host": host, "http": {"paths": paths}}]});
            if let Some(class) = class {
                spec["ingressClassName"] = json!(class);
            }
            let secret = match tls {
                Tls::None => None,
                Tls::Secret(name) => Some(name.as_str()),
                Tls::Issuer(issuer) => {
                    let kind = if issuer.is_namespaced { "issuer" } else { "cluster-issuer" };
                    metadata["annotations"][format!("cert-manager.io/{kind}")] = json!(issuer.name);
                    Some(ISSUED_SECRET)
                }
            };
            if let Some(secret) = secret {
                spec["tls"] = json!([{"hosts": [host], "secretName": secret}]);
            }
            json!({"apiVersion": INGRESS_API, "kind": "Ingress", "metadata": metadata, "spec": spec})
        }
        Entrance::Gateway { namespace, name } => {
            let group = GATEWAY_API.split('/').next();
            // What the API server would set by itself is set here, so that nothing differs from what is applied.
            let spec = json!({
                "parentRefs": [{"group": group, "kind": "Gateway", "namespace": namespace, "name": name}],
                "hostnames": [host],
                "rules": [{
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                    "backendRefs": [{"group": "", "kind": "Service", "name": WEB, "port": PORT, "weight": 1}],
                }],
            });
            json!({"apiVersion": GATEWAY_API, "kind": "HTTPRoute", "metadata": metadata, "spec": spec})
        }
    };
    Ok(serde_json::from_value(object)?)
}

/// Completes the rendered objects of the app by what depends on the cluster.
///
/// # Errors
/// As [`check`].
pub(super) async fn complete(cx: &Context, part: Part, objects: &mut [DynamicObject]) -> Result<()> {
    let Some(address) = cx.config.address.as_ref().filter(|_| part == Part::Web) else { return Ok(()) };
    let found = find(cx, address).await?;
    for object in objects {
        match kind(object) {
            "Ingress" | "HTTPRoute" => {
                object.annotations_mut().insert(PUBLIC_URL.into(), found.url.clone());
                if let Some(class) = &found.class {
                    object.data["spec"]["ingressClassName"] = json!(class);
                }
            }
            "Deployment" => {
                let variables = object.data.pointer_mut("/spec/template/spec/containers/0/env");
                let variables = variables.and_then(Value::as_array_mut).into_iter().flatten();
                for variable in variables.filter(|variable| variable["name"] == URL_VARIABLE) {
                    variable["value"] = json!(found.url);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Looks whether the cluster has what the address needs; returns what users are going to type, if an address is asked for.
///
/// # Errors
/// What it lacks, with the remedy; or the cluster does not answer.
pub async fn check(cx: &Context) -> Result<Option<String>> {
    match &cx.config.address {
        Some(address) => Ok(Some(find(cx, address).await?.url)),
        None => Ok(None),
    }
}

async fn find(cx: &Context, address: &Address) -> Result<AddressFacts> {
    let (kube, namespace) = (cx.kube().await?, cx.config.stack.namespace.as_str());
    match &address.entrance {
        Entrance::Ingress { class, tls } => {
            let before = kube.get(&ingress(namespace)).await?;
            let before = before.as_ref().and_then(|before| before.data["spec"]["ingressClassName"].as_str());
            let class = choose_class(&kube.ingress_classes().await?, class.as_deref(), before)?;
            match tls {
                Tls::None => {}
                Tls::Secret(name) => check_secret(kube, namespace, name, &address.host).await?,
                Tls::Issuer(issuer) => check_issuer(kube, namespace, issuer).await?,
            }
            Ok(AddressFacts { class: Some(class), url: url_before(address) })
        }
        Entrance::Gateway { namespace: of, name } => {
            let url = gateway::url(kube, namespace, (of, name), &address.host).await?;
            Ok(AddressFacts { class: None, url })
        }
    }
}

/// The class of the Ingress: the one that was asked for, the one that it has already, the default, or the only one. Each of
/// `all` is told with whether it is a default.
fn choose_class(
    all: &[(String, bool)],
    asked: Option<&str>,
    before: Option<&str>,
) -> std::result::Result<String, Failure> {
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    let there = names.join(", ");
    if let Some(asked) = asked {
        if names.contains(&asked) {
            return Ok(asked.into());
        }
        let there = if there.is_empty() { "there is none at all".into() } else { format!("there are: {there}") };
        return Err(failed(format!("there is no IngressClass {asked}, which --ingress-class names ({there})"))
            .remedy("name one that there is, or install the ingress controller that brings it"));
    }
    let defaults: Vec<&str> = all.iter().filter(|(_, default)| *default).map(|(name, _)| name.as_str()).collect();
    match (before.filter(|before| names.contains(before)), defaults.as_slice(), names.as_slice()) {
        (Some(before), ..) => Ok(before.into()),
        (None, [one], _) | (None, [], [one]) => Ok((*one).into()),
        (None, [], []) => Err(failed("--host needs an ingress controller, and the cluster has no IngressClass")
            .remedy("install one, such as Traefik or HAProxy's: its manifests bring an IngressClass")
            .remedy("or name a Gateway that there is: --gateway NAMESPACE/NAME")),
        (None, [], [first, ..]) => {
            Err(failed(format!("the cluster has several IngressClasses ({there}), and none is the default"))
                .remedy(format!("name one: --ingress-class {first}")))
        }
        (None, [first, ..], _) => {
            let defaults = defaults.join(", ");
            Err(failed(format!("the cluster has several default IngressClasses: {defaults}"))
                .remedy(format!("name one: --ingress-class {first}")))
        }
    }
}

async fn check_secret(kube: &Kube, namespace: &str, name: &str, host: &str) -> Result<()> {
    let secret = ObjectRef::namespaced("v1", "Secret", namespace, name);
    let make = format!("kubectl -n {namespace} create secret tls {name} --cert=FILE --key=FILE");
    let Some(there) = kube.get(&secret).await? else {
        let mut failure = failed(format!("{secret}, which --tls-secret names, is not there"));
        if kube.get(&ObjectRef::cluster("v1", "Namespace", namespace)).await?.is_none() {
            failure = failure.remedy(format!("kubectl create namespace {namespace}"));
        }
        return Err(failure.remedy(make).into());
    };
    match unfit_certificate(&there, host) {
        None => Ok(()),
        Some(why) => Err(failed(format!("{secret}, which --tls-secret names, {why}"))
            .remedy(format!("name another one, or make it anew with a certificate for {host}: {make}"))
            .into()),
    }
}

async fn check_issuer(kube: &Kube, namespace: &str, issuer: &Issuer) -> Result<()> {
    let Issuer { is_namespaced, name } = issuer;
    let kind = issuer.kind();
    if !kube.knows(CERT_MANAGER_API, kind).await? {
        return Err(failed(format!(
            "--tls-issuer {name} needs cert-manager, and the cluster does not know its kind {kind}"
        ))
        .remedy("install cert-manager, or bring a certificate: --tls-secret SECRET")
        .into());
    }
    let reference = match is_namespaced {
        true => ObjectRef::namespaced(CERT_MANAGER_API, kind, namespace, name),
        false => ObjectRef::cluster(CERT_MANAGER_API, kind, name),
    };
    if kube.get(&reference).await?.is_some() {
        return Ok(());
    }
    Err(failed(format!("{reference}, which --tls-issuer names, is not there"))
        .remedy("kubectl get clusterissuers, or get issuers, lists those there are")
        .remedy("a ClusterIssuer is named by its name, an Issuer of the stack's namespace by Issuer/NAME")
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(entrance: Entrance) -> Address {
        Address { host: "app.example.com".into(), entrance, proxies: Some("10.1.0.0/16".into()) }
    }

    fn objects(address: Option<&Address>) -> Vec<DynamicObject> {
        let mut objects = Part::Web.embedded().unwrap();
        add(Part::Web, &mut objects, address).unwrap();
        objects
    }

    fn data<'a>(objects: &'a [DynamicObject], wanted: &str) -> &'a Value {
        &objects.iter().find(|object| kind(object) == wanted).unwrap_or_else(|| panic!("no {wanted}")).data
    }

    #[test]
    fn proxies_come_to_a_port_of_their_own() {
        let tls = Tls::Secret("cert".into());
        let objects = objects(Some(&address(Entrance::Ingress { class: Some("x".into()), tls })));
        let container = &data(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
        let variable = |name: &str| {
            let all = container["env"].as_array().unwrap();
            all.iter().find(|one| one["name"] == name).map(|one| one["value"].as_str().unwrap().to_owned())
        };
        assert_eq!(variable("PROXY_LISTEN").as_deref(), Some("[::]:8081"));
        assert_eq!(variable("PUBLIC_URL").as_deref(), Some("https://app.example.com"));
        assert_eq!(variable("TRUSTED_PROXIES").as_deref(), Some("10.1.0.0/16"));
        let named = |port: &Value| port["name"] == PORT_NAME;
        assert!(container["ports"].as_array().unwrap().iter().any(named));
        assert!(data(&objects, "Service")["spec"]["ports"].as_array().unwrap().iter().any(named));
        let let_in = &data(&objects, "NetworkPolicy")["spec"]["ingress"][0];
        assert!(let_in.get("from").is_none() && let_in["ports"][1]["port"] == PORT, "{let_in}");
        let spec = &data(&objects, "Ingress")["spec"];
        assert_eq!(spec["tls"], json!([{"hosts": ["app.example.com"], "secretName": "cert"}]));
        assert_eq!(spec["ingressClassName"], "x");
        assert_eq!(spec.pointer("/rules/0/http/paths/0/backend/service/port/name"), Some(&json!(PORT_NAME)));
    }

    #[test]
    fn without_a_host_nothing_is_added() {
        let plain = serde_json::to_value(Part::Web.embedded().unwrap()).unwrap();
        assert_eq!(serde_json::to_value(objects(None)).unwrap(), plain);
    }

    #[test]
    fn an_issuer_is_named_by_the_annotation_of_its_kind() {
        for (is_namespaced, annotation) in [(false, "cert-manager.io/cluster-issuer"), (true, "cert-manager.io/issuer")]
        {
            let tls = Tls::Issuer(Issuer { is_namespaced, name: "ca".into() });
            let objects = objects(Some(&address(Entrance::Ingress { class: None, tls })));
            let ingress = objects.iter().find(|object| kind(object) == "Ingress").unwrap();
            assert_eq!(ingress.annotations()[annotation], "ca");
            assert_eq!(ingress.data["spec"]["tls"][0]["secretName"], ISSUED_SECRET);
        }
    }

    #[test]
    fn a_class_is_the_one_asked_for_the_former_the_default_or_the_only_one() {
        let all = |names: &[(&str, bool)]| -> Vec<(String, bool)> {
            names.iter().map(|(name, default)| ((*name).to_owned(), *default)).collect()
        };
        let two = all(&[("a", false), ("b", true)]);
        assert_eq!(choose_class(&two, Some("a"), Some("b")).unwrap(), "a");
        assert_eq!(choose_class(&two, None, Some("a")).unwrap(), "a", "another default does not move it");
        assert_eq!(choose_class(&two, None, Some("gone")).unwrap(), "b");
        assert_eq!(choose_class(&all(&[("a", false)]), None, None).unwrap(), "a");
        for (names, asked, told) in [
            (all(&[]), None, "no IngressClass"),
            (all(&[("a", false), ("b", false)]), None, "several IngressClasses (a, b)"),
            (all(&[("a", true), ("b", true)]), None, "several default IngressClasses: a, b"),
            (all(&[("a", true)]), Some("c"), "there is no IngressClass c"),
        ] {
            let refusal = choose_class(&names, asked, None).unwrap_err();
            assert!(refusal.message.contains(told) && !refusal.remedies.is_empty(), "{refusal}");
        }
    }
}
