//! The user and the password of a page that one has to log in to.

use anyhow::Context as _;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::Api;

use super::Site;
use crate::{
    error::{Result, failed},
    kube::Kube,
};

const USER: &str = "admin-user";
const PASSWORD: &str = "admin-password";

/// What is shown. Without `Debug`: a password must not get into a log.
pub struct Login {
    /// The user's name.
    pub user: String,
    /// Only if it was asked for.
    pub password: Option<String>,
}

/// Reads them from the Secret; the password only if it is asked for.
///
/// # Errors
/// There is no such Secret, it lacks a key, or it may not be read.
pub async fn read(kube: &Kube, site: &Site, secret: &str, password: bool) -> Result<Login> {
    let api: Api<Secret> = Api::namespaced(kube.client(), &site.namespace);
    let name = format!("Secret {}/{secret}", site.namespace);
    let found = api.get_opt(secret).await.with_context(|| format!("cannot read {name}"))?;
    let data = found.and_then(|found| found.data).unwrap_or_default();
    let value = |key: &str| match data.get(key) {
        Some(ByteString(bytes)) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        None => Err(failed(format!("{name} has no {key}: nobody can log in to {}", site.title))
            .remedy("stackctl up makes it anew")),
    };
    Ok(Login { user: value(USER)?, password: if password { Some(value(PASSWORD)?) } else { None } })
}
