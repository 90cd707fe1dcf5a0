//! Which proxy the way to the API server leads through, as kubectl decides it (Go's `net/http/httpproxy`).
//!
//! `HTTPS_PROXY` is set on many machines for the engine's sake; a cluster on this machine must not be
//! looked for behind it.

use std::net::IpAddr;

use crate::error::{Result, usage};

/// The proxy that the environment names for this address; `None` for loopback, for what is in `NO_PROXY`, and where there
/// is none.
///
/// # Errors
/// The variable names no proxy (exit code 2).
pub(super) fn of_environment(server: &http::Uri) -> Result<Option<http::Uri>> {
    let names =
        if server.scheme_str() == Some("http") { ["HTTP_PROXY", "http_proxy"] } else { ["HTTPS_PROXY", "https_proxy"] };
    let found = names.into_iter().find_map(|name| Some((name, variable(name)?)));
    let Some((name, proxy)) = found else { return Ok(None) };
    let no_proxy = variable("NO_PROXY").or_else(|| variable("no_proxy")).unwrap_or_default();
    if is_bypassed(server, &no_proxy) { Ok(None) } else { parse(&proxy, name).map(Some) }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// A proxy's address: with `http` where it has no scheme. `what` says where it stands.
///
/// # Errors
/// It is no address, or of a kind that is not spoken (exit code 2).
pub(super) fn parse(text: &str, what: &str) -> Result<http::Uri> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        // The proxy resolves names in both.
        "socks5" | "socks5h" => "socks5",
        "http" => "http",
        "https" => "https",
        other => {
            return Err(usage(format!("{what} is a proxy of the kind {other}"))
                .remedy("http, https, socks5 and socks5h are spoken")
                .into());
        }
    };
    // Its password is not shown.
    let parsed: std::result::Result<http::Uri, _> = format!("{scheme}://{}", rest.trim_end_matches('/')).parse();
    let uri = parsed.ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    uri.ok_or_else(|| {
        usage(format!("{what} is no address of a proxy")).remedy("write it like http://proxy.example.com:3128").into()
    })
}

fn is_bypassed(server: &http::Uri, no_proxy: &str) -> bool {
    let Some(host) = server.host() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    let port = server.port_u16().unwrap_or(if server.scheme_str() == Some("http") { 80 } else { 443 });
    is_loopback(&host) || no_proxy.split(',').any(|entry| matches(&entry.trim().to_ascii_lowercase(), &host, port))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// One entry of `NO_PROXY`: `*`, an address, a range, or a domain with all below it, the last with a port if need be. What
/// is none of these matches nothing.
fn matches(entry: &str, host: &str, port: u16) -> bool {
    if entry.is_empty() {
        return false;
    }
    if entry == "*" {
        return true;
    }
    let address = host.parse::<IpAddr>().ok();
    if let Some((network, bits)) = entry.split_once('/') {
        return address.is_some_and(|ip| in_range(ip, network, bits));
    }
    let (entry, entry_port) = split_port(entry);
    if entry_port.is_some_and(|wanted| wanted != port.to_string()) {
        return false;
    }
    if let Some(ip) = address {
        return entry.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() == Ok(ip);
    }
    // `*.example.com` and `.example.com` are what is below it alone.
    let below = entry.strip_prefix('*').unwrap_or(entry);
    match below.strip_prefix('.') {
        Some(domain) => !domain.is_empty() && host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
        None => host == entry || host.strip_suffix(entry).is_some_and(|rest| rest.ends_with('.')),
    }
}

/// Splits `host:port`; an IPv6 address without brackets has colons of its own.
fn split_port(entry: &str) -> (&str, Option<&str>) {
    match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (entry, None),
    }
}

fn in_range(ip: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) if bits <= 32 => {
            let shift = 32 - bits;
            u32::from(ip).checked_shr(shift).unwrap_or(0) == u32::from(network).checked_shr(shift).unwrap_or(0)
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) if bits <= 128 => {
            let shift = 128 - bits;
            u128::from(ip).checked_shr(shift).unwrap_or(0) == u128::from(network).checked_shr(shift).unwrap_or(0)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_entries() {
        for (entry, host, expected) in [
            ("*", "anything", true),
            ("", "anything", false),
            ("192.168.0.0/16", "192.168.49.2", true),
            ("192.168.0.0/16", "192.169.49.2", false),
            ("0.0.0.0/0", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1:6443", "10.0.0.1", true),
            ("10.0.0.1:443", "10.0.0.1", false),
            ("10.0.0.1", "10.0.0.11", false),
            ("nonsense/99", "10.0.0.1", false),
            ("/var/run", "10.0.0.1", false),
            ("example.com", "api.example.com", true),
            ("example.com", "example.com", true),
            ("example.com:6443", "example.com", true),
            ("example.com:80", "example.com", false),
            (".example.com", "api.example.com", true),
            (".example.com", "example.com", false),
            ("*.example.com", "api.example.com", true),
            ("example.com", "notexample.com", false),
            ("fd00::/8", "fd12::1", true),
            ("fd12::1", "fd12::1", true),
            ("[fd12::1]:6443", "fd12::1", true),
        ] {
            assert_eq!(matches(entry, host, 6443), expected, "{entry} {host}");
        }
    }

    #[test]
    fn loopback_is_never_behind_a_proxy_of_the_environment() {
        for server in ["https://127.0.0.1:32771", "https://localhost:6443", "https://[::1]:6443"] {
            assert!(is_bypassed(&server.parse().unwrap(), ""), "{server}");
        }
        let server = "https://api.Example.com:6443".parse().unwrap();
        assert!(is_bypassed(&server, "localhost,, ,EXAMPLE.com,"));
        assert!(!is_bypassed(&server, "localhost,/var/run"));
    }

    #[test]
    fn proxies_are_written_in_several_ways() {
        for (text, uri) in [
            ("proxy:3128", "http://proxy:3128/"),
            ("HTTP://proxy:3128/", "http://proxy:3128/"),
            ("https://u:p@proxy", "https://u:p@proxy/"),
            ("socks5h://proxy:1080", "socks5://proxy:1080/"),
        ] {
            assert_eq!(parse(text, "x").unwrap().to_string(), uri, "{text}");
        }
        for text in ["", "ftp://proxy", "http://", "http://a b"] {
            assert!(parse(text, "x").is_err(), "{text}");
        }
    }
}
