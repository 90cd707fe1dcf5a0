//! The address of the app for the outside as it is in the cluster: the Ingress or the HTTPRoute that leads to the app, what
//! its controller says of it, and the certificate.

use base64::Engine as _;
use kube::{ResourceExt as _, core::DynamicObject};
use rustls::{
    CertificateError, Error as TlsError, InconsistentKeys,
    client::verify_server_name,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use serde_json::Value;

use crate::{
    error::Result,
    kube::{Kube, ObjectRef},
    names::{PUBLIC_URL, WEB},
};

/// The API version of Gateways and their routes.
pub const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";
/// The API version of Ingresses and their classes.
pub const INGRESS_API: &str = "networking.k8s.io/v1";
/// The type of a Secret with a certificate.
const TLS_TYPE: &str = "kubernetes.io/tls";

/// The app's address for the outside, and how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicAddress {
    /// What users type.
    pub url: String,
    /// What leads there.
    pub way: String,
    /// Why it does not lead to the app yet, or not well.
    pub lack: Option<String>,
}

impl PublicAddress {
    /// The address of the stack in this namespace; `None` where it has none.
    ///
    /// # Errors
    /// The cluster does not answer, or the user may not read it.
    pub async fn read(kube: &Kube, namespace: &str) -> Result<Option<PublicAddress>> {
        if let Some((live, url)) = ours(kube, &ingress(namespace)).await? {
            return Ok(Some(Self::of_ingress(kube, namespace, &live, url).await?));
        }
        Ok(ours(kube, &route(namespace)).await?.map(|(live, url)| Self::of_route(&live, url)))
    }

    async fn of_ingress(kube: &Kube, namespace: &str, live: &DynamicObject, url: String) -> Result<Self> {
        let class = live.data["spec"]["ingressClassName"].as_str().unwrap_or("the default");
        let places = live.data["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten();
        let places = places.filter_map(|place| place["ip"].as_str().or_else(|| place["hostname"].as_str()));
        let places: Vec<&str> = places.collect();
        let place = if places.is_empty() { String::new() } else { format!(" at {}", places.join(", ")) };
        let lack = match live.data.pointer("/spec/tls/0/secretName").and_then(Value::as_str) {
            Some(name) => {
                let secret = ObjectRef::namespaced("v1", "Secret", namespace, name);
                let host = live.data.pointer("/spec/rules/0/host").and_then(Value::as_str).unwrap_or_default();
                match kube.get(&secret).await? {
                    Some(there) => unfit_certificate(&there, host).map(|why| format!("{secret} {why}")),
                    None => Some(format!("{secret}, which is to have the certificate, is not there")),
                }
            }
            None => None,
        };
        Ok(PublicAddress { url, way: format!("Ingress of class {class}{place}"), lack })
    }

    fn of_route(live: &DynamicObject, url: String) -> Self {
        let gateway = &live.data["spec"]["parentRefs"][0];
        let name = |field: &str| gateway[field].as_str().unwrap_or_default();
        let way = format!("HTTPRoute of Gateway {}/{}", name("namespace"), name("name"));
        let conditions = live.data.pointer("/status/parents/0/conditions").and_then(Value::as_array);
        let refused = conditions
            .into_iter()
            .flatten()
            .find(|one| one["status"] == "False" && matches!(one["type"].as_str(), Some("Accepted" | "ResolvedRefs")));
        let lack = match (conditions, refused) {
            (None, _) => Some("no controller has taken the route yet".into()),
            (_, Some(one)) => Some(one["message"].as_str().or_else(|| one["reason"].as_str()).unwrap_or("?").into()),
            (Some(_), None) => None,
        };
        PublicAddress { url, way, lack }
    }

    /// For people, with what is to be known of it.
    pub fn describe(&self) -> String {
        let plain =
            if self.url.starts_with("http://") { "; without TLS: whoever is on the way can read it" } else { "" };
        let lack = self.lack.as_ref().map(|lack| format!("; {lack}")).unwrap_or_default();
        format!("{} ({}){plain}{lack}", self.url, self.way)
    }
}

/// The Ingress that leads to the app of the stack in this namespace.
pub fn ingress(namespace: &str) -> ObjectRef {
    ObjectRef::namespaced(INGRESS_API, "Ingress", namespace, WEB)
}

/// The HTTPRoute in its place.
pub fn route(namespace: &str) -> ObjectRef {
    ObjectRef::namespaced(GATEWAY_API, "HTTPRoute", namespace, WEB)
}

/// An object of ours that leads to the app, and the address that it was made for.
async fn ours(kube: &Kube, object: &ObjectRef) -> Result<Option<(DynamicObject, String)>> {
    let live = kube.get(object).await?;
    Ok(live.and_then(|live| {
        let url = live.annotations().get(PUBLIC_URL)?.clone();
        Some((live, url))
    }))
}

/// Why an ingress controller cannot serve `host` with this Secret; `None`: it can.
pub fn unfit_certificate(secret: &DynamicObject, host: &str) -> Option<String> {
    let kind = secret.data["type"].as_str().unwrap_or("Opaque");
    if kind != TLS_TYPE {
        return Some(format!("is of type {kind}, not {TLS_TYPE}"));
    }
    let file = |name: &str| {
        let text = secret.data["data"][name].as_str().unwrap_or_default();
        base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default()
    };
    let chain: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&file("tls.crt")).collect();
    let Some(chain) = chain.ok().filter(|chain| !chain.is_empty()) else {
        return Some("has no certificate in tls.crt that can be read".into());
    };
    let Ok(key) = PrivateKeyDer::from_pem_slice(&file("tls.key")) else {
        return Some("has no private key in tls.key that can be read".into());
    };
    let certificate = chain[0].clone();
    // A key of a sort that this program does not know may be one that the controller knows.
    let pair = CertifiedKey::from_der(chain, key, &default_provider());
    if matches!(pair, Err(TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch))) {
        return Some("has a private key that is not its certificate's".into());
    }
    let named = ParsedCertificate::try_from(&certificate).and_then(|certificate| {
        let name = ServerName::try_from(host).map_err(|_| TlsError::General("no name of a server".into()))?;
        verify_server_name(&certificate, &name)
    });
    match named {
        Ok(()) => None,
        Err(TlsError::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. })) => {
            let bare = |name: &String| name.trim_start_matches("DnsName(\"").trim_end_matches("\")").to_owned();
            let names: Vec<String> = presented.iter().map(bare).collect();
            let names = if names.is_empty() { "no name at all".into() } else { names.join(", ") };
            Some(format!("has a certificate for {names}, not for {host}"))
        }
        Err(error) => Some(format!("has a certificate that cannot be used for {host}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(data: Value) -> DynamicObject {
        let mut object =
            DynamicObject::new("x", &kube::api::ApiResource::erase::<k8s_openapi::api::core::v1::Secret>(&()));
        object.data = data;
        object
    }

    fn secret(kind: &str, certificate: &str, key: &str) -> DynamicObject {
        let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        object(json!({"type": kind, "data": {"tls.crt": encoded(certificate), "tls.key": encoded(key)}}))
    }

    #[test]
    fn a_certificate_is_for_the_host_and_its_key_is_its_own() {
        let make = |name: &str| {
            let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
            (made.cert.pem(), made.signing_key.serialize_pem())
        };
        let (certificate, key) = make("app.example.com");
        let unfit = |kind: &str, certificate: &str, key: &str| {
            unfit_certificate(&secret(kind, certificate, key), "app.example.com").unwrap_or_default()
        };
        assert_eq!(unfit(TLS_TYPE, &certificate, &key), "");
        let (wildcard, its_key) = make("*.example.com");
        assert_eq!(unfit(TLS_TYPE, &wildcard, &its_key), "");
        let (other, other_key) = make("www.example.com");
        assert_eq!(
            unfit(TLS_TYPE, &other, &other_key),
            "has a certificate for www.example.com, not for app.example.com"
        );
        assert!(unfit(TLS_TYPE, &certificate, &other_key).contains("not its certificate's"));
        assert!(unfit("Opaque", &certificate, &key).contains("is of type Opaque"));
        assert!(unfit(TLS_TYPE, "", &key).contains("tls.crt"));
        assert!(unfit(TLS_TYPE, &certificate, "").contains("tls.key"));
    }

    #[test]
    fn a_route_says_who_refuses_it() {
        let of = |status: Value| {
            let spec = json!({"parentRefs": [{"namespace": "infra", "name": "public"}]});
            PublicAddress::of_route(&object(json!({"spec": spec, "status": status})), "http://a.example".into())
        };
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "message": "no such port"});
        let parents = |conditions: Value| json!({"parents": [{"conditions": conditions}]});
        assert!(of(json!({})).lack.unwrap().contains("no controller"));
        assert_eq!(of(parents(json!([condition("Accepted", "True")]))).lack, None);
        let refused = of(parents(json!([condition("Accepted", "True"), condition("ResolvedRefs", "False")])));
        assert_eq!(
            refused.describe(),
            "http://a.example (HTTPRoute of Gateway infra/public); without TLS: whoever is on the way can read it; no such \
             port"
        );
    }
}
