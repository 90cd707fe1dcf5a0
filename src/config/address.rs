//! The address of the app for the outside: its host, what leads there, and the certificate.

use ipnet::IpNet;

use super::{choices::Choices, names};
use crate::error::{Result, usage};

/// The app's address for the outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The name that users type.
    pub host: String,
    /// What leads to the app.
    pub entrance: Entrance,
    /// The networks of the proxies that are believed; `None`: whoever comes to the port for proxies is.
    pub proxies: Option<String>,
}

/// What leads to the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entrance {
    /// An Ingress.
    Ingress {
        /// Its class; `None`: the cluster's default, or the only one.
        class: Option<String>,
        /// The certificate.
        tls: Tls,
    },
    /// An HTTPRoute of a Gateway, which may have a certificate.
    Gateway {
        /// The Gateway's namespace.
        namespace: String,
        /// The Gateway's name.
        name: String,
    },
}

/// Where the certificate of an Ingress comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// There is none: plain HTTP.
    None,
    /// A Secret of the stack's namespace.
    Secret(String),
    /// An issuer of cert-manager's.
    Issuer(Issuer),
}

/// An issuer of cert-manager's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Whether it is an Issuer of the stack's namespace, rather than a ClusterIssuer.
    pub is_namespaced: bool,
    /// The name that it has in the cluster.
    pub name: String,
}

impl Issuer {
    /// The kind, as its manifests name it.
    pub fn kind(&self) -> &'static str {
        if self.is_namespaced { "Issuer" } else { "ClusterIssuer" }
    }
}

/// The address that was chosen, if any.
///
/// # Errors
/// A name that is none, or choices that are about a host where there is none or do not go together (exit code 2).
pub(super) fn parse(chosen: &Choices) -> Result<Option<Address>> {
    let Choices { ingress_class, gateway, tls_secret, tls_issuer, trusted_proxies, .. } = chosen;
    let all = [
        ("ingress-class", ingress_class),
        ("gateway", gateway),
        ("tls-secret", tls_secret),
        ("tls-issuer", tls_issuer),
        ("trusted-proxies", trusted_proxies),
    ];
    let mut given = all.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| *name);
    let Some(host) = &chosen.host else {
        return match given.next() {
            Some(name) => Err(usage(format!("--{name} is about an address of the app, and none is asked for"))
                .remedy("name it: --host app.example.com")
                .into()),
            None => Ok(None),
        };
    };
    names::check_subdomain("name of --host", host)?;
    if host.parse::<std::net::IpAddr>().is_ok() {
        return Err(usage(format!("--host {host} is an address of a machine: an Ingress leads from a name")).into());
    }
    if tls_secret.is_some() && tls_issuer.is_some() {
        return Err(usage("--tls-secret and --tls-issuer are two sources of one certificate: give one of them").into());
    }
    let entrance = match gateway {
        Some(_) if given.any(|name| !matches!(name, "gateway" | "trusted-proxies")) => {
            return Err(usage(
                "--gateway is in place of an Ingress: its class and its certificate are the Gateway's own",
            )
            .remedy("leave out --ingress-class, --tls-secret and --tls-issuer, or --gateway")
            .into());
        }
        Some(gateway) => parse_gateway(gateway)?,
        None => {
            let tls = match (tls_secret, tls_issuer) {
                (Some(secret), _) => {
                    names::check_subdomain("Secret of --tls-secret", secret)?;
                    Tls::Secret(secret.clone())
                }
                (None, Some(issuer)) => Tls::Issuer(parse_issuer(issuer)?),
                (None, None) => Tls::None,
            };
            if let Some(class) = ingress_class {
                names::check_subdomain("class of --ingress-class", class)?;
            }
            Entrance::Ingress { class: ingress_class.clone(), tls }
        }
    };
    let proxies = trusted_proxies.as_deref().map(parse_networks).transpose()?;
    Ok(Some(Address { host: host.clone(), entrance, proxies }))
}

fn parse_gateway(text: &str) -> Result<Entrance> {
    let Some((namespace, name)) = text.split_once('/') else {
        return Err(usage(format!("--gateway {text:?} does not say in which namespace it is"))
            .remedy("write it like NAMESPACE/NAME")
            .into());
    };
    names::check_name("namespace of --gateway", namespace)?;
    names::check_subdomain("name of --gateway", name)?;
    Ok(Entrance::Gateway { namespace: namespace.into(), name: name.into() })
}

fn parse_issuer(text: &str) -> Result<Issuer> {
    let (kind, name) = text.split_once('/').unwrap_or(("ClusterIssuer", text));
    if !matches!(kind, "ClusterIssuer" | "Issuer") {
        return Err(usage(format!("--tls-issuer {text:?} is of kind {kind}, which is no issuer of cert-manager's"))
            .remedy("write it like ClusterIssuer/NAME or Issuer/NAME")
            .into());
    }
    names::check_subdomain("issuer of --tls-issuer", name)?;
    Ok(Issuer { is_namespaced: kind == "Issuer", name: name.into() })
}

/// The networks in one form, as the app reads them.
fn parse_networks(text: &str) -> Result<String> {
    let network = |text: &str| {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
        let refuse = |_| usage(format!("--trusted-proxies has {text:?}, which is no network"));
        network.map_err(|error| refuse(error).remedy("write it like 10.1.0.0/16 or fd00::/8"))
    };
    let all: std::result::Result<Vec<_>, _> = text.split(',').map(str::trim).map(network).collect();
    Ok(all?.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{kind_of, one_line};

    fn chosen(change: impl FnOnce(&mut Choices)) -> Result<Option<Address>> {
        let mut choices = Choices { host: Some("app.example.com".into()), ..Choices::default() };
        change(&mut choices);
        parse(&choices)
    }

    fn some(text: &str) -> Option<String> {
        Some(text.into())
    }

    #[test]
    fn an_address_is_a_host_and_a_way_there() {
        let plain = chosen(|_| {}).unwrap().unwrap();
        assert_eq!(plain.entrance, Entrance::Ingress { class: None, tls: Tls::None });
        let issued = |text: &str| match chosen(|c| c.tls_issuer = some(text)).unwrap().unwrap().entrance {
            Entrance::Ingress { tls: Tls::Issuer(issuer), .. } => (issuer.kind(), issuer.name),
            other => panic!("{other:?}"),
        };
        assert_eq!(issued("letsencrypt"), ("ClusterIssuer", "letsencrypt".into()));
        assert_eq!(issued("Issuer/ours"), ("Issuer", "ours".into()));
        let gateway = chosen(|c| c.gateway = some("infra/public")).unwrap().unwrap();
        assert_eq!(gateway.entrance, Entrance::Gateway { namespace: "infra".into(), name: "public".into() });
        let proxies = chosen(|c| c.trusted_proxies = some("10.1.0.0/16, 192.0.2.1")).unwrap().unwrap().proxies;
        assert_eq!(proxies.as_deref(), Some("10.1.0.0/16,192.0.2.1/32"));
        assert_eq!(chosen(|c| c.host = None).unwrap(), None);
    }

    #[test]
    fn what_is_no_address_is_refused_and_names_the_option() {
        type Change = fn(&mut Choices);
        let refused: [(&str, Change); 9] = [
            ("--host", |c| c.host = some("App.example.com")),
            ("--host", |c| c.host = some("192.0.2.1")),
            ("--host", |c| c.host = some("*.example.com")),
            ("--tls-secret", |c| (c.host, c.tls_secret) = (None, some("s"))),
            ("--tls-issuer", |c| (c.tls_issuer, c.tls_secret) = (some("i"), some("s"))),
            ("--tls-issuer", |c| c.tls_issuer = some("Certificate/x")),
            ("--gateway", |c| c.gateway = some("public")),
            ("--gateway", |c| (c.gateway, c.tls_secret) = (some("a/b"), some("s"))),
            ("--trusted-proxies", |c| c.trusted_proxies = some("10.0.0.0/40")),
        ];
        for (option, change) in refused {
            let error = chosen(change).unwrap_err();
            assert_eq!(kind_of(&error).exit_code(), 2);
            assert!(one_line(&error).contains(option), "{option}: {}", one_line(&error));
        }
    }
}
