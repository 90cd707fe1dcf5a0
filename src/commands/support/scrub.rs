//! What must not leave the cluster in an archive for others: secrets, tokens, and addresses of users.

use base64::{Engine, prelude::BASE64_STANDARD as STANDARD};
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

/// What stands in the place of a secret.
const SECRET: &str = "(secret)";
/// What stands in the place of somebody's address.
const ADDRESS: &str = "(address)";
/// The keys of a Secret whose values are secret by what they are called; the others name hosts, users and databases.
const SECRET_KEYS: [&str; 7] = ["pass", "secret", "token", "key", "uri", "jdbc", "credential"];
/// The keys of Secrets for registries, by their types `kubernetes.io/dockerconfigjson` and `kubernetes.io/dockercfg`.
const REGISTRY_KEYS: [&str; 2] = [".dockerconfigjson", ".dockercfg"];
/// The fields of a login to a registry that are secret.
const LOGIN_KEYS: [&str; 4] = ["auth", "password", "identitytoken", "registrytoken"];
/// A shorter value would be found in half of all words.
const SHORTEST: usize = 6;

/// Knows the secrets of a stack, and takes them out of texts.
#[derive(Default)]
pub struct Scrubber {
    secrets: Vec<String>,
}

impl Scrubber {
    /// Learns the values of a Secret, and the logins within one for registries.
    pub fn learn(&mut self, secret: &Secret) {
        for (key, value) in secret.data.iter().flatten() {
            let key = key.to_lowercase();
            let plain = String::from_utf8(value.0.clone()).unwrap_or_default();
            if SECRET_KEYS.iter().any(|part| key.contains(part)) {
                let encoded = serde_json::to_value(value).unwrap_or_default();
                self.learn_text(plain.trim());
                self.learn_text(encoded.as_str().unwrap_or_default());
            } else if REGISTRY_KEYS.contains(&key.as_str()) {
                self.learn_logins(&serde_json::from_str(&plain).unwrap_or_default());
            }
        }
        // A connection string holds the password: the longer one goes first.
        self.secrets.sort_by_key(|text| std::cmp::Reverse(text.len()));
        self.secrets.dedup();
    }

    /// Learns what is secret in a registry's configuration, at whatever depth: both of its formats are read.
    fn learn_logins(&mut self, configuration: &Value) {
        for (name, value) in configuration.as_object().into_iter().flatten() {
            match value.as_str() {
                Some(text) if LOGIN_KEYS.contains(&name.as_str()) => {
                    self.learn_text(text);
                    // `auth` is the name and the password, in base64.
                    let decoded = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                    if let Some((_, password)) = decoded.as_deref().and_then(|login| login.split_once(':')) {
                        self.learn_text(password);
                    }
                }
                _ => self.learn_logins(value),
            }
        }
    }

    fn learn_text(&mut self, text: &str) {
        if text.len() >= SHORTEST {
            self.secrets.push(text.to_owned());
        }
    }

    /// The text without secrets, tokens, private keys, passwords in addresses, and mail addresses.
    pub fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), SECRET);
            }
        }
        let text = without_private_keys(&text);
        let mut clean = String::with_capacity(text.len());
        for piece in text.split_inclusive(is_separator) {
            let end =
                piece.char_indices().next_back().filter(|(_, c)| is_separator(*c)).map_or(piece.len(), |(at, _)| at);
            let (word, separator) = piece.split_at(end);
            clean.push_str(&word_without_secret(word));
            clean.push_str(separator);
        }
        clean
    }
}

/// Takes out addresses in the network: what an app's log has of those who use it.
pub fn without_clients(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':')) {
        let end = piece.char_indices().next_back().filter(|(_, c)| !(c.is_ascii_hexdigit() || *c == '.' || *c == ':'));
        let (word, rest) = piece.split_at(end.map_or(piece.len(), |(at, _)| at));
        let host = word.rsplit_once(':').filter(|(host, _)| !host.contains(':')).map_or(word, |(host, _)| host);
        let is_address = host.parse::<std::net::IpAddr>().is_ok_and(|ip| !ip.is_unspecified());
        clean.push_str(if is_address && host.len() > 2 { ADDRESS } else { word });
        clean.push_str(rest);
    }
    clean
}

fn is_separator(c: char) -> bool {
    c.is_whitespace() || "\"'`,;<>()[]{}=\\".contains(c)
}

fn word_without_secret(word: &str) -> String {
    // A JSON Web Token: three parts, the first of which begins with `{"` in base64.
    if word.starts_with("eyJ") && word.matches('.').count() == 2 {
        return SECRET.into();
    }
    if let Some((scheme, rest)) = word.split_once("://")
        && let Some((login, host)) = rest.split_once('@')
        && login.contains(':')
    {
        return format!("{scheme}://{SECRET}@{host}");
    }
    match word.split_once('@') {
        // An image by its digest has no mail address.
        Some((name, host))
            if !name.is_empty() && host.contains('.') && !host.starts_with("sha256") && !word.contains("://") =>
        {
            ADDRESS.into()
        }
        _ => word.to_owned(),
    }
}

fn without_private_keys(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN ";
    const END: &str = "PRIVATE KEY-----";
    let (mut clean, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(BEGIN) {
        let (before, block) = rest.split_at(at);
        // The label of the first line, and the same label at the end.
        let inside = block.find(END).filter(|label| !block[BEGIN.len()..*label].contains('-'));
        let end = inside.and_then(|label| Some(label + END.len() + block[label + END.len()..].find(END)? + END.len()));
        clean.push_str(before);
        match end {
            Some(end) => {
                clean.push_str(SECRET);
                rest = &block[end..];
            }
            None if inside.is_some() => return clean + SECRET,
            None => {
                clean.push_str(BEGIN);
                rest = &block[BEGIN.len()..];
            }
        }
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrubber() -> Scrubber {
        let mut scrubber = Scrubber::default();
        let secret = serde_json::json!({"data": {
            "password": "aHVudGVyMi1odW50ZXIy", "username": "dXNlci1hcHA=", "uri": "cG9zdGdyZXM6Ly9hOmh1bnRlcjItaHVudGVyMkBoL2Ri",
        }});
        scrubber.learn(&serde_json::from_value(secret).unwrap());
        scrubber
    }

    #[test]
    fn planted_secrets_are_found_in_every_form() {
        let key = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\n-----END EC PRIVATE KEY-----";
        for (text, expected) in [
            ("password hunter2-hunter2 refused", "password (secret) refused"),
            ("data: aHVudGVyMi1odW50ZXIy", "data: (secret)"),
            ("postgres://a:hunter2-hunter2@h/db", "(secret)"),
            ("https://me:pw@proxy:3128/x", "https://(secret)@proxy:3128/x"),
            ("Authorization: Bearer eyJhbGciOi.eyJzdWIi.c2ln", "Authorization: Bearer (secret)"),
            (r#"{"email":"ada@example.com"}"#, r#"{"email":"(address)"}"#),
            (&format!("a {key} b"), "a (secret) b"),
            ("-----BEGIN EC PRIVATE KEY-----\nMHcCAQ", "(secret)"),
        ] {
            assert_eq!(scrubber().scrub(text), expected);
        }
    }

    #[test]
    fn logins_to_registries_are_found_in_both_formats() {
        let login = serde_json::json!({"r.example.com": {"username": "team", "password": "swordfish-1", "email": "a@b",
            "auth": STANDARD.encode("team:swordfish-2"), "identitytoken": "token-of-an-identity"}});
        for (key, text) in
            [(".dockerconfigjson", serde_json::json!({"auths": login}).to_string()), (".dockercfg", login.to_string())]
        {
            let mut scrubber = Scrubber::default();
            let secret = serde_json::json!({"data": {key: STANDARD.encode(text)}});
            scrubber.learn(&serde_json::from_value(secret).unwrap());
            let said =
                format!("team swordfish-1 swordfish-2 {} token-of-an-identity", STANDARD.encode("team:swordfish-2"));
            assert_eq!(scrubber.scrub(&said), "team (secret) (secret) (secret) (secret)", "{key}");
            // A configuration that cannot be read teaches nothing, and fails nothing.
            scrubber.learn(&serde_json::from_value(serde_json::json!({"data": {key: STANDARD.encode("{")}})).unwrap());
        }
    }

    #[test]
    fn what_is_needed_to_find_a_fault_stays() {
        for text in [
            "user-app user_db-1 on 10.0.0.1",
            "image ghcr.io/a/b@sha256:0123",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
            "see https://example.com/a@b",
            "line one\n\tline two  ",
        ] {
            assert_eq!(scrubber().scrub(text), text);
        }
    }

    #[test]
    fn clients_of_the_app_are_not_told() {
        let log = r#"{"peer":"192.0.2.7:5123","status":200} 12:30:01 from fd00::17 to v1.2.3"#;
        let clean = without_clients(log);
        assert!(!clean.contains("192.0.2.7") && !clean.contains("fd00::17"), "{clean}");
        assert!(clean.contains("200} 12:30:01") && clean.contains("v1.2.3"), "{clean}");
    }
}
