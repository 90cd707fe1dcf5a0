//! A Gateway that is to lead to the app: whether one of its listeners takes the route.

use serde_json::Value;

use crate::{
    address::GATEWAY_API,
    error::{Result, failed},
    kube::{
        Kube, ObjectRef,
        prometheus::{Labels, matches},
    },
};

/// The route that a listener is to take.
struct Route<'a> {
    host: &'a str,
    namespace: &'a str,
    labels: &'a Labels,
}

/// What users type where a Gateway leads to the app: by https where a listener for the host has it.
///
/// # Errors
/// The cluster has no Gateway API or not this Gateway, or none of its listeners takes the route; or it does not answer.
pub(super) async fn url(kube: &Kube, namespace: &str, gateway: (&str, &str), host: &str) -> Result<String> {
    for kind in ["Gateway", "HTTPRoute"] {
        if !kube.knows(GATEWAY_API, kind).await? {
            return Err(failed(format!(
                "--gateway needs the kind {kind} of {GATEWAY_API}, which the cluster does not know"
            ))
            .remedy("install the Gateway API and a controller for it, or leave out --gateway for an Ingress")
            .into());
        }
    }
    let (of, name) = gateway;
    let reference = ObjectRef::namespaced(GATEWAY_API, "Gateway", of, name);
    let Some(there) = kube.get(&reference).await? else {
        return Err(failed(format!("{reference}, which --gateway names, is not there"))
            .remedy("kubectl get gateways --all-namespaces lists those there are")
            .into());
    };
    let labels = kube.namespace_labels(namespace).await?;
    let listeners = there.data["spec"]["listeners"].as_array().map(Vec::as_slice).unwrap_or_default();
    match url_by(listeners, of, &Route { host, namespace, labels: &labels }) {
        Some(url) => Ok(url),
        None => Err(failed(format!(
            "{reference} has no listener that takes a route for {host} from namespace {namespace}: {}",
            describe(listeners)
        ))
        .remedy("have its owner add a listener of HTTP or HTTPS for that name whose allowedRoutes let the namespace in")
        .into()),
    }
}

/// What users type, by the listeners of a Gateway in namespace `of`.
fn url_by(listeners: &[Value], of: &str, route: &Route) -> Option<String> {
    let mut fit: Vec<&Value> = listeners.iter().filter(|listener| takes(listener, of, route)).collect();
    // HTTPS first: what comes by http beside it is led there by the app.
    fit.sort_by_key(|listener| listener["protocol"] != "HTTPS");
    let listener = fit.first()?;
    let (scheme, usual) = if listener["protocol"] == "HTTPS" { ("https", 443) } else { ("http", 80) };
    let port = listener["port"].as_u64().filter(|port| *port != usual);
    Some(format!("{scheme}://{}{}", route.host, port.map(|port| format!(":{port}")).unwrap_or_default()))
}

fn takes(listener: &Value, of: &str, route: &Route) -> bool {
    let has_protocol = matches!(listener["protocol"].as_str(), Some("HTTP" | "HTTPS"));
    let has_host = match listener["hostname"].as_str() {
        None | Some("") => true,
        Some(name) => match name.strip_prefix('*') {
            Some(end) => route.host.ends_with(end) && route.host.len() > end.len(),
            None => name == route.host,
        },
    };
    let allowed = &listener["allowedRoutes"];
    let kinds = allowed["kinds"].as_array().filter(|kinds| !kinds.is_empty());
    let has_kind = kinds.is_none_or(|kinds| kinds.iter().any(|kind| kind["kind"] == "HTTPRoute"));
    let lets_in = match allowed["namespaces"]["from"].as_str().unwrap_or("Same") {
        "All" => true,
        "Same" => route.namespace == of,
        "Selector" => serde_json::from_value(allowed["namespaces"]["selector"].clone())
            .is_ok_and(|selector| matches(&selector, route.labels)),
        _ => false,
    };
    has_protocol && has_host && has_kind && lets_in
}

fn describe(listeners: &[Value]) -> String {
    let one = |listener: &Value| {
        let text = |value: &Value, without: &str| value.as_str().unwrap_or(without).to_owned();
        format!(
            "{} ({}, {}, routes from {})",
            text(&listener["name"], "?"),
            text(&listener["protocol"], "?"),
            text(&listener["hostname"], "any name"),
            text(&listener["allowedRoutes"]["namespaces"]["from"], "Same")
        )
    };
    listeners.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_listener_takes_a_route_by_name_namespace_and_kind_and_https_comes_first() {
        let labels = Labels::from([("team".to_owned(), "a".to_owned())]);
        let route = Route { host: "app.example.com", namespace: "stack", labels: &labels };
        let listener = |protocol: &str, port: u16, hostname: &str, from: Value| {
            json!({"name": "l", "protocol": protocol, "port": port, "hostname": hostname,
                   "allowedRoutes": {"namespaces": from}})
        };
        let all = || json!({"from": "All"});
        let url = |listeners: &[Value], of: &str| url_by(listeners, of, &route);
        let plain = listener("HTTP", 80, "", all());
        assert_eq!(url(std::slice::from_ref(&plain), "infra").as_deref(), Some("http://app.example.com"));
        let secure = listener("HTTPS", 8443, "*.example.com", all());
        assert_eq!(url(&[plain, secure], "infra").as_deref(), Some("https://app.example.com:8443"));
        let selector = |team: &str| json!({"from": "Selector", "selector": {"matchLabels": {"team": team}}});
        assert!(url(&[listener("HTTPS", 443, "app.example.com", selector("a"))], "infra").is_some());
        let same = listener("HTTP", 80, "", json!({"from": "Same"}));
        assert!(url(std::slice::from_ref(&same), "stack").is_some());
        for refused in [
            same,
            listener("HTTP", 80, "", selector("b")),
            listener("HTTP", 80, "www.example.com", all()),
            listener("HTTP", 80, "*.app.example.com", all()),
            listener("TLS", 443, "", all()),
            json!({"protocol": "HTTP", "allowedRoutes": {"kinds": [{"kind": "GRPCRoute"}], "namespaces": {"from": "All"}}}),
        ] {
            assert_eq!(url(std::slice::from_ref(&refused), "infra"), None, "{refused}");
        }
        assert_eq!(describe(&[json!({"name": "web", "protocol": "HTTP"})]), "web (HTTP, any name, routes from Same)");
    }
}
