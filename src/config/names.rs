//! What Kubernetes and registries take for a name, checked before anything is asked.

use crate::error::{Result, usage};

/// Namespaces that belong to the parts that every stack of a cluster shares.
const OF_PARTS: [&str; 2] = ["monitoring", "cnpg-system"];
/// Beginnings of the names of namespaces that belong to the cluster itself.
const OF_THE_CLUSTER: [&str; 2] = ["kube-", "openshift-"];

/// RFC 1123 label: what Kubernetes takes for a namespace, and minikube for a profile.
///
/// # Errors
/// The name is none (exit code 2).
pub(super) fn check_name(what: &str, name: &str) -> Result<()> {
    if is_label(name) {
        return Ok(());
    }
    Err(usage(format!("the {what} {name:?} is not a valid name: lower-case letters, digits and '-', 63 at most"))
        .into())
}

/// RFC 1123 subdomain: labels with dots between them, as the names of Secrets are.
///
/// # Errors
/// The name is none (exit code 2).
pub(super) fn check_subdomain(what: &str, name: &str) -> Result<()> {
    if name.len() <= 253 && name.split('.').all(is_label) {
        return Ok(());
    }
    Err(usage(format!("the {what} {name:?} is not a valid name: lower-case letters, digits, '-' and '.', 253 at most"))
        .into())
}

fn is_label(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// The namespace of a stack: never one of the cluster's own, nor one that holds what stacks share. `up` sets Pod Security
/// labels on it, and `down` may delete it.
///
/// # Errors
/// The name is none, or belongs to somebody else (exit code 2).
pub(super) fn check_namespace(name: &str) -> Result<()> {
    check_name("namespace", name)?;
    let owner = if OF_PARTS.contains(&name) {
        "holds parts that every stack of a cluster shares"
    } else if OF_THE_CLUSTER.iter().any(|beginning| name.starts_with(beginning)) || name == "openshift" {
        "belongs to the cluster itself"
    } else {
        return Ok(());
    };
    Err(usage(format!("the namespace {name} {owner}: a stack cannot be there"))
        .remedy("name one for the stack alone with --namespace, or leave it out for user-app")
        .into())
}

/// The registry and the path in it that image names begin with: `registry.example.com:5000/team`. `flag` is for errors.
///
/// # Errors
/// What no image's name can begin with: a scheme, an upper-case letter, a space, an empty part (exit code 2).
pub fn parse_registry(flag: &str, text: &str) -> Result<String> {
    let trimmed = text.trim();
    let refuse = |why: &str, remedy: String| {
        usage(format!("{flag} {text:?} cannot be the beginning of an image's name: {why}")).remedy(remedy)
    };
    if let Some((_, rest)) = trimmed.split_once("://") {
        let rest = rest.trim_end_matches('/').to_lowercase();
        return Err(refuse("it has no scheme", format!("write it like {rest}")).into());
    }
    let name = trimmed.trim_end_matches('/');
    if name.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(refuse("it is in lower case", format!("write it like {}", name.to_lowercase())).into());
    }
    let mut parts = name.split('/');
    if parts.next().is_some_and(is_host) && parts.all(is_path_part) {
        return Ok(name.to_owned());
    }
    Err(refuse("it is a host, a port if need be, and a path", "write it like registry.example.com:5000/team".into())
        .into())
}

/// A host and, after a colon, its port: by the grammar of `github.com/distribution/reference`, with IPv6 in brackets.
pub(super) fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let has_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    has_port
        && match address {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.split('.').all(is_label),
        }
}

/// Letters and digits, with one `.`, one or two `_`, or any number of `-` between them.
fn is_path_part(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends_plain = text.bytes().next().is_some_and(is_plain) && text.bytes().last().is_some_and(is_plain);
    let separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let separated = separators
        .into_iter()
        .all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-'));
    ends_plain && separated
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::kind_of;

    #[test]
    fn names() {
        assert!(check_name("namespace", "user-app").is_ok());
        for name in ["", "User", "-a", "a-", "a b", "a/b", &"a".repeat(64)] {
            assert!(check_name("namespace", name).is_err(), "{name}");
        }
        assert!(check_subdomain("Secret", "minio.creds").is_ok());
        for name in ["", ".a", "a.", "a..b", "A.b"] {
            assert!(check_subdomain("Secret", name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_stack_has_no_namespace_that_is_not_its_own() {
        for name in ["kube-system", "kube-public", "kube-node-lease", "monitoring", "cnpg-system", "openshift-etcd"] {
            assert_eq!(kind_of(&check_namespace(name).unwrap_err()).exit_code(), 2, "{name}");
        }
        for name in ["user-app", "kubernetes", "monitoring-team", "default"] {
            assert!(check_namespace(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_registry_is_what_image_names_can_begin_with() {
        for (text, name) in [
            ("registry.example.com/team", "registry.example.com/team"),
            ("registry.example.com/team/ ", "registry.example.com/team"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("localhost:5000/a__b/c-d/e.f", "localhost:5000/a__b/c-d/e.f"),
            ("[::1]:5000/team", "[::1]:5000/team"),
        ] {
            assert_eq!(parse_registry("--registry", text).unwrap(), name, "{text}");
        }
        for text in [
            "",
            "/",
            "ghcr.io/MyOrg",
            "https://registry.example.com/team",
            "oci://a/b",
            "a b/c",
            "a//b",
            "host:port/a",
            "host:0/a",
            "a/b:tag",
            "a/-b",
            "a/b._c",
            "a/b@sha256:0",
            "[::g]/a",
            "é/a",
        ] {
            assert_eq!(kind_of(&parse_registry("--registry", text).unwrap_err()).exit_code(), 2, "{text}");
        }
    }
}
