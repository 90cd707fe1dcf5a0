//! Secrets that are made once and then kept: the store's credentials, and the certificates by which the operator and
//! the plugin know each other.

use std::collections::BTreeMap;

use anyhow::Context as _;
use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use k8s_openapi::ByteString;
use kube::core::DynamicObject;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, date_time_ymd};
use serde_json::{Value, json};

use super::{KEY_ID, PLUGIN_DEPLOYMENT, SECRET_KEY, STORE};
use crate::{error::Result, kube::ObjectRef, names::OPERATOR_NAMESPACE, random};

/// When a certificate ends: what made it noted it here.
pub const NOT_AFTER: &str = "stackctl/not-after";

/// Days that a certificate is valid.
const VALID: i64 = 5 * 365;
/// One that ends within so many days is replaced: years before the operator could no longer talk to the plugin.
const RENEW: i64 = 2 * 365;

/// Who shows a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The plugin.
    Server,
    /// The operator.
    Client,
}

impl Side {
    /// Both sides.
    pub const ALL: [Side; 2] = [Side::Server, Side::Client];

    /// The Secret's name, which the plugin's Service is annotated with.
    pub const fn secret(self) -> &'static str {
        match self {
            Side::Server => "barman-cloud-server-tls",
            Side::Client => "barman-cloud-client-tls",
        }
    }

    /// The Secret, beside a plugin in `namespace`.
    pub fn reference(self, namespace: &str) -> ObjectRef {
        ObjectRef::namespaced("v1", "Secret", namespace, self.secret())
    }
}

/// The Secret with the certificate of `side`: what is `there`, unless it ends soon.
///
/// # Errors
/// The machine gives no random numbers.
pub fn certificate(side: Side, there: Option<&DynamicObject>, now: Timestamp) -> Result<DynamicObject> {
    if let Some(there) = there
        && not_after(there).is_some_and(|end| days(now, end) > RENEW)
        && let (Some(certificate), Some(key)) =
            (there.data.pointer("/data/tls.crt"), there.data.pointer("/data/tls.key"))
    {
        let until = there.metadata.annotations.as_ref().and_then(|all| all.get(NOT_AFTER));
        return tls_secret(side, until.context("a certificate without an end")?, certificate, key);
    }
    let today = now.to_zoned(TimeZone::UTC).date();
    let until = today.checked_add(VALID.days())?;
    let (certificate, key) = self_signed(side, today.checked_sub(1.day())?, until)?;
    let until = until.to_zoned(TimeZone::UTC)?.timestamp().to_string();
    tls_secret(side, &until, &encoded(certificate)?, &encoded(key)?)
}

/// When the certificate of a Secret ends, if stackctl made it.
pub fn not_after(secret: &DynamicObject) -> Option<Timestamp> {
    secret.metadata.annotations.as_ref()?.get(NOT_AFTER)?.parse().ok()
}

/// Whole days from `now` to `end`.
pub fn days(now: Timestamp, end: Timestamp) -> i64 {
    end.duration_since(now).as_hours() / 24
}

fn tls_secret(side: Side, until: &str, certificate: &Value, key: &Value) -> Result<DynamicObject> {
    secret(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {
            "name": side.secret(), "namespace": OPERATOR_NAMESPACE,
            "annotations": BTreeMap::from([(NOT_AFTER, until)]),
        },
        "data": {"tls.crt": certificate, "tls.key": key},
    }))
}

/// Each side trusts exactly the other's certificate, so neither needs an authority.
fn self_signed(side: Side, from: Date, until: Date) -> Result<(String, String)> {
    let names = match side {
        Side::Server => vec![PLUGIN_DEPLOYMENT.to_owned()],
        Side::Client => vec![],
    };
    let mut params = CertificateParams::new(names).context("the plugin's name is no DNS name")?;
    params.distinguished_name.push(DnType::CommonName, side.secret());
    let [not_before, not_after] = [from, until].map(|date| {
        // Months and days are positive and small.
        date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
    });
    params.not_before = not_before;
    params.not_after = not_after;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match side {
        Side::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Side::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    let key = KeyPair::generate().context("cannot make a key for the plugin")?;
    let certificate = params.self_signed(&key).context("cannot make a certificate for the plugin")?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// The Secret with the credentials of the store in the cluster: what is `there`, and by chance what is not.
///
/// # Errors
/// The machine gives no random numbers.
pub fn credentials(namespace: &str, there: Option<&DynamicObject>) -> Result<DynamicObject> {
    let mut data = BTreeMap::new();
    for (key, length) in [(KEY_ID, 20), (SECRET_KEY, 40)] {
        let kept = there.and_then(|secret| secret.data.get("data")?.get(key).cloned());
        let value = match kept {
            Some(value) => value,
            None => encoded(random::secret("credentials for the store of backups", random::BASE32, length)?)?,
        };
        data.insert(key, value);
    }
    secret(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": STORE, "namespace": namespace},
        "data": data,
    }))
}

/// As `data` and not as `stringData`: of that the server notes other fields than those that the next apply names.
fn encoded(text: String) -> Result<Value> {
    Ok(serde_json::to_value(ByteString(text.into_bytes()))?)
}

fn secret(object: Value) -> Result<DynamicObject> {
    serde_json::from_value(object).context("a Secret cannot be made")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_certificate_is_kept_until_it_ends_within_two_years() {
        let made = certificate(Side::Server, None, at("2026-11-24T10:00:00Z")).unwrap();
        assert_eq!(made.metadata.annotations.as_ref().unwrap()[NOT_AFTER], "2031-11-23T00:00:00Z");
        let later = |now: &str| certificate(Side::Server, Some(&made), at(now)).unwrap();
        assert_eq!(later("2029-11-20T00:00:00Z").data, made.data, "kept as it is");
        let renewed = later("2029-11-25T00:00:00Z");
        assert_ne!(renewed.data, made.data);
        assert_eq!(renewed.metadata.annotations.unwrap()[NOT_AFTER], "2034-11-24T00:00:00Z");
    }

    #[test]
    fn a_secret_that_lacks_its_key_is_made_anew() {
        let mut broken = certificate(Side::Client, None, at("2026-11-24T10:00:00Z")).unwrap();
        broken.data["data"].as_object_mut().unwrap().remove("tls.key");
        let made = certificate(Side::Client, Some(&broken), at("2026-11-25T10:00:00Z")).unwrap();
        assert!(made.data["data"]["tls.key"].as_str().is_some_and(|key| key.len() > 100));
    }

    #[test]
    fn credentials_are_made_once_and_differ() {
        let one = credentials("a", None).unwrap();
        assert_eq!(credentials("a", Some(&one)).unwrap().data, one.data);
        assert_ne!(credentials("a", None).unwrap().data, one.data);
    }
}
