//! The front: the address of its own on which the proxies come that lead the outside to the app.
//!
//! What a proxy tells of a client is believed there, and nowhere else: who comes to the app's other address, from inside the
//! cluster, is who its connection says. `X-Forwarded-For` and `X-Forwarded-Proto` are read, which proxies set themselves.
//! `Forwarded` (RFC 7239) is not: those that don't know it hand on what a client wrote there.

use std::net::{IpAddr, SocketAddr};

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap, HeaderName};
use anyhow::{Context, Result, bail};
use ipnet::IpNet;

use crate::config::Config;

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The front's settings.
#[derive(Debug, Clone)]
pub struct Front {
    /// The address that proxies come to.
    pub listen: String,
    port: u16,
    /// What users type: scheme, host and port, without a path.
    url: String,
    /// The proxies' networks; none: whoever comes to the front is the one proxy.
    proxies: Vec<IpNet>,
}

impl Front {
    /// Reads the settings: where proxies come to, the public URL, and the proxies' networks with commas between them.
    ///
    /// # Errors
    /// A setting that can't be read; the error names it.
    pub fn parse(listen: String, url: &str, proxies: &str) -> Result<Self> {
        let port = listen.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let port = port.with_context(|| format!("PROXY_LISTEN is {listen:?}: it has no port"))?;
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.contains(['/', '?', '#', '@']) || !host.is_ascii()) {
            bail!("PUBLIC_URL is {url:?}: with PROXY_LISTEN it must be like https://app.example.com");
        }
        let network = |text: &str| {
            let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            network.with_context(|| format!("TRUSTED_PROXIES has {text:?}, which is no network like 10.1.0.0/16"))
        };
        let listed = proxies.split(',').map(str::trim).filter(|text| !text.is_empty());
        Ok(Self { listen, port, url: url.to_owned(), proxies: listed.map(network).collect::<Result<_>>()? })
    }

    fn is_secure(&self) -> bool {
        self.url.starts_with("https://")
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&address))
    }

    /// The client of a request that `peer` brought: by the entries of `X-Forwarded-For` from the last one back, each of which
    /// was written by the proxy after it, as long as that is one of ours. What a client wrote there itself stands before them.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        let entries = || headers.get_all(header::X_FORWARDED_FOR).filter_map(|value| value.to_str().ok());
        let told: Vec<&str> = entries().flat_map(|value| value.split(',')).collect();
        if self.proxies.is_empty() {
            return told.last().and_then(|entry| parse(entry)).unwrap_or(peer);
        }
        let mut client = peer;
        for entry in told.iter().rev() {
            let Some(address) = parse(entry).filter(|_| self.is_proxy(client)) else { break };
            client = address;
        }
        client
    }
}

/// An address as proxies write it, some with the port.
fn parse(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let address = entry.parse().or_else(|_| entry.parse::<SocketAddr>().map(|socket| socket.ip())).ok();
    address.map(|address: IpAddr| address.to_canonical())
}

/// The front, if the request came by it.
fn of<'a>(req: &HttpRequest, config: &'a Config) -> Option<&'a Front> {
    config.front.as_ref().filter(|front| req.app_config().local_addr().port() == front.port)
}

/// The client's address: the peer's, or what the proxies tell at the front.
pub fn client(req: &HttpRequest, config: &Config) -> Option<IpAddr> {
    let peer = req.peer_addr()?.ip();
    Some(of(req, config).map_or(peer.to_canonical(), |front| front.client(peer, req.headers())))
}

/// Tells whether the browser has the app by https: cookies have `__Host-` and `Secure` then.
pub fn is_secure(req: &HttpRequest, config: &Config) -> bool {
    of(req, config).is_some_and(Front::is_secure)
}

/// Where a request belongs that came to a proxy by http though the app is served by https.
pub fn by_https(req: &HttpRequest, config: &Config) -> Option<String> {
    let front = of(req, config).filter(|front| front.is_secure())?;
    let proto = req.headers().get_all(X_FORWARDED_PROTO).last()?.to_str().ok()?;
    let is_plain = proto.rsplit(',').next().is_some_and(|last| last.trim().eq_ignore_ascii_case("http"));
    let path = req.uri().path_and_query().map_or("/", |path| path.as_str());
    (is_plain && path.starts_with('/')).then(|| format!("{}{path}", front.url))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn front(proxies: &str) -> Front {
        Front::parse("[::]:8081".into(), "https://app.example.com", proxies).unwrap()
    }

    fn seen(front: &Front, peer: &str, told: &[&str]) -> String {
        let req = told.iter().fold(TestRequest::get(), |req, value| req.append_header(("x-forwarded-for", *value)));
        front.client(peer.parse().unwrap(), req.to_http_request().headers()).to_string()
    }

    #[test]
    fn a_client_cannot_forge_its_address_at_the_one_proxy() {
        let front = front("");
        assert_eq!(seen(&front, "10.0.0.9", &["192.0.2.66, 192.0.2.1"]), "192.0.2.1", "the proxy wrote the last");
        assert_eq!(seen(&front, "10.0.0.9", &["192.0.2.66", "192.0.2.1:4711"]), "192.0.2.1");
        assert_eq!(seen(&front, "10.0.0.9", &["[2001:db8::1]:80"]), "2001:db8::1");
        assert_eq!(seen(&front, "::ffff:10.0.0.9", &[]), "10.0.0.9");
        assert_eq!(seen(&front, "10.0.0.9", &["192.0.2.1, unknown"]), "10.0.0.9", "what cannot be read tells nothing");
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let front = front("10.0.0.0/24, 198.51.100.7");
        assert_eq!(seen(&front, "10.0.0.9", &["192.0.2.66, 192.0.2.1"]), "192.0.2.1");
        assert_eq!(seen(&front, "10.0.0.9", &["192.0.2.66, 192.0.2.1, 198.51.100.7"]), "192.0.2.1", "two of ours");
        assert_eq!(seen(&front, "10.0.1.9", &["192.0.2.66"]), "10.0.1.9", "no proxy of ours");
        assert_eq!(seen(&front, "::ffff:10.0.0.9", &["192.0.2.1"]), "192.0.2.1");
        assert_eq!(seen(&front, "10.0.0.9", &["192.0.2.1, ?, 198.51.100.7"]), "198.51.100.7");
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        for (listen, url, proxies) in [
            ("8081", "https://a", ""),
            ("[::]:8081", "", ""),
            ("[::]:8081", "app.example.com", ""),
            ("[::]:8081", "https://app.example.com/path", ""),
            ("[::]:8081", "https://a", "10.0.0.0/33"),
        ] {
            assert!(Front::parse(listen.into(), url, proxies).is_err(), "{listen} {url} {proxies}");
        }
    }
}
