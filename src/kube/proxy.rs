//! Whether the way to the API server leads through a proxy.
//!
//! `HTTPS_PROXY` is set on many machines for the engine's sake; a cluster on this machine must not be
//! looked for behind it.

use std::net::IpAddr;

/// Whether the proxy that the environment names is not meant for this address: loopback, or in `NO_PROXY`.
pub(super) fn bypassed(server: &http::Uri) -> bool {
    let Some(host) = server.host() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let list = std::env::var("NO_PROXY").or_else(|_| std::env::var("no_proxy")).unwrap_or_default();
    is_loopback(host) || list.split(',').any(|entry| matches(entry.trim(), host))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// One entry of `NO_PROXY`: `*`, an address, a range, or a domain with all below it.
fn matches(entry: &str, host: &str) -> bool {
    if entry.is_empty() {
        return false;
    }
    if entry == "*" {
        return true;
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return entry
            .split_once('/')
            .map_or_else(|| entry.parse::<IpAddr>() == Ok(ip), |(network, bits)| in_range(ip, network, bits));
    }
    let domain = entry.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
    let host = host.to_ascii_lowercase();
    host == domain || host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'))
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
            ("10.0.0.1", "10.0.0.11", false),
            ("nonsense/99", "10.0.0.1", false),
            ("example.com", "api.example.com", true),
            (".example.com", "api.example.com", true),
            ("*.example.com", "API.example.com", true),
            ("example.com", "notexample.com", false),
            ("fd00::/8", "fd12::1", true),
        ] {
            assert_eq!(matches(entry, host), expected, "{entry} {host}");
        }
    }

    #[test]
    fn loopback_is_never_behind_a_proxy() {
        assert!(bypassed(&"https://127.0.0.1:32771".parse().unwrap()));
        assert!(bypassed(&"https://localhost:6443".parse().unwrap()));
        assert!(bypassed(&"https://[::1]:6443".parse().unwrap()));
    }
}
