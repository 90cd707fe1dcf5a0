//! Azure Blob Storage, with what the backup plugin puts into the environment.

use object_store::azure::{AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::client::HttpConnector;

use super::{Opened, Opening};
use crate::command::AzureCredential;
use crate::stop::{Result, Stop};

/// The public cloud; others, and emulators, are left to barman.
const DOMAIN: &str = ".blob.core.windows.net";

/// Opens the container.
pub(super) fn open<C>(opening: &Opening<C>) -> Result<Opened<MicrosoftAzure>>
where
    C: HttpConnector + Clone,
{
    let command = opening.command;
    if !command.tags.is_empty() || !command.history_tags.is_empty() {
        return Err(Stop::Handover("tags in an Azure store".into()));
    }
    let (account, container, path) = address(&command.url)?;
    let builder = MicrosoftAzureBuilder::new()
        .with_account(account)
        .with_container_name(container)
        .with_retry(opening.retry.clone())
        .with_http_connector(opening.connector.clone());
    let variable = |name: &str| opening.variable(name);
    let builder = match command.azure_credential {
        Some(which) => identity(opening, builder, which),
        None => match variable("AZURE_STORAGE_CONNECTION_STRING") {
            Some(text) => connection(builder, text, account)?,
            None => match (variable("AZURE_STORAGE_SAS_TOKEN"), variable("AZURE_STORAGE_KEY")) {
                (Some(token), _) => shared_access(builder, token),
                (None, Some(key)) => builder.with_access_key(key),
                (None, None) => identity(opening, builder, AzureCredential::Default),
            },
        },
    };
    let store = builder.build();
    let store = store.map_err(|error| Stop::Handover(format!("the settings are not understood: {error}")))?;
    Ok(Opened { store, path: path.to_owned() })
}

/// Who this machine or pod is, to Azure.
fn identity<C>(opening: &Opening<C>, builder: MicrosoftAzureBuilder, which: AzureCredential) -> MicrosoftAzureBuilder {
    let [client, tenant, secret, token, authority] = [
        "AZURE_CLIENT_ID",
        "AZURE_TENANT_ID",
        "AZURE_CLIENT_SECRET",
        "AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_AUTHORITY_HOST",
    ]
    .map(|name| opening.variable(name));
    let builder = match authority {
        Some(host) => builder.with_authority_host(host.trim_end_matches('/')),
        None => builder,
    };
    let builder = match client {
        Some(client) => builder.with_client_id(client),
        None => builder,
    };
    let is_default = which == AzureCredential::Default;
    match (client, tenant, secret, token) {
        (Some(client), Some(tenant), Some(secret), _) if is_default => {
            builder.with_client_secret_authorization(client, secret, tenant).with_credential_type("client_secret")
        }
        (Some(_), Some(tenant), None, Some(file)) if is_default => {
            builder.with_tenant_id(tenant).with_federated_token_file(file).with_credential_type("workload_identity")
        }
        _ => builder.with_credential_type("managed_identity"),
    }
}

/// `AccountName=…;AccountKey=…;EndpointSuffix=core.windows.net`
fn connection(builder: MicrosoftAzureBuilder, text: &str, account: &str) -> Result<MicrosoftAzureBuilder> {
    // Never with the text: it holds a key.
    let unusual = || Stop::Handover("an unusual connection string".into());
    let (mut key, mut token) = (None, None);
    for part in text.split(';').filter(|part| !part.is_empty()) {
        match part.split_once('=').ok_or_else(unusual)? {
            ("AccountName", name) if name == account => {}
            ("EndpointSuffix", "core.windows.net") | ("DefaultEndpointsProtocol", "https") => {}
            ("BlobEndpoint", address) if address.trim_end_matches('/') == format!("https://{account}{DOMAIN}") => {}
            ("AccountKey", value) => key = Some(value),
            ("SharedAccessSignature", value) => token = Some(value),
            _ => return Err(unusual()),
        }
    }
    match (key, token) {
        (Some(key), None) => Ok(builder.with_access_key(key)),
        (None, Some(token)) => Ok(shared_access(builder, token)),
        _ => Err(unusual()),
    }
}

fn shared_access(builder: MicrosoftAzureBuilder, token: &str) -> MicrosoftAzureBuilder {
    builder.with_config(AzureConfigKey::SasKey, token.trim_start_matches('?'))
}

/// Account, container and path of `https://account.blob.core.windows.net/container/path`.
fn address(url: &str) -> Result<(&str, &str, &str)> {
    let unusual = || Stop::Handover(format!("{url} is not a plain address of Azure's public cloud"));
    let rest = url.strip_prefix("https://").ok_or_else(unusual)?;
    let (host, rest) = rest.split_once('/').ok_or_else(unusual)?;
    let account = host.strip_suffix(DOMAIN).ok_or_else(unusual)?;
    let (container, path) = rest.split_once('/').unwrap_or((rest, ""));
    let name = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !name(account) || !name(container) || path.contains(['?', '#', '%', ';']) {
        return Err(unusual());
    }
    Ok((account, container, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_barman_does() {
        assert_eq!(address("https://acc.blob.core.windows.net/c/team/a"), Ok(("acc", "c", "team/a")));
        assert_eq!(address("https://acc.blob.core.windows.net/c"), Ok(("acc", "c", "")));
        for other in [
            "https://acc.blob.core.windows.net",
            "https://acc.blob.core.windows.net/",
            "http://127.0.0.1:10000/acc/c/team",
            "https://a.b.blob.core.windows.net/c",
            "s3://b/",
        ] {
            assert!(matches!(address(other), Err(Stop::Handover(_))), "{other}");
        }
    }

    #[test]
    fn a_connection_string_is_read_and_never_shown() {
        let read = |text: &str| connection(MicrosoftAzureBuilder::new(), text, "acc").map(drop);
        read("DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=c2VjcmV0Cg==;EndpointSuffix=core.windows.net")
            .unwrap();
        read("BlobEndpoint=https://acc.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=c2VjcmV0").unwrap();
        for other in ["AccountName=acc", "AccountName=other;AccountKey=secret", "UseDevelopmentStorage=true", "secret"]
        {
            let Err(Stop::Handover(reason)) = read(other) else { panic!("{other}") };
            assert!(!reason.contains("secret"), "{reason}");
        }
    }
}
