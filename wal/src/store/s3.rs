//! S3, found and signed for as boto does.

use std::path::Path;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::HttpConnector;

use super::{Opened, Opening};
use crate::command::Addressing;
use crate::stop::{Result, Stop};

/// Settings that boto takes from the environment and that nothing is known of here.
const UNKNOWN: [&str; 9] = [
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
];
/// Boto's, where the endpoint is given.
const DEFAULT_REGION: &str = "us-east-1";
/// Regions whose hosts have other names.
const OTHER_DOMAINS: [&str; 3] = ["cn-", "us-iso", "eu-iso"];

/// Opens the bucket.
pub(super) fn open<C>(opening: &Opening<C>) -> Result<Opened<AmazonS3>>
where
    C: HttpConnector + Clone,
{
    let command = opening.command;
    opening.none_of(&UNKNOWN)?;
    if let Some(home) = opening.variable("HOME") {
        for file in ["config", "credentials"].map(|name| Path::new(home).join(".aws").join(name)) {
            if file.exists() {
                return Err(Stop::Handover(format!("{} is there", file.display())));
            }
        }
    }
    let (bucket, path) = address(&command.url)?;
    let region = opening.variable("AWS_DEFAULT_REGION");
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(region.unwrap_or(DEFAULT_REGION))
        .with_retry(opening.retry.clone())
        .with_http_connector(opening.connector.clone());
    builder = match (&command.endpoint, region) {
        (Some(endpoint), _) => {
            let plain = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
            if plain.is_none_or(|rest| rest.is_empty() || rest.contains(['?', '#', '@', ' '])) {
                return Err(Stop::Handover(format!("the endpoint {endpoint} is not a plain address")));
            }
            if command.addressing == Addressing::Virtual {
                return Err(Stop::Handover("an endpoint of its own with virtual hosts".into()));
            }
            builder.with_endpoint(endpoint).with_virtual_hosted_style_request(false).with_allow_http(true)
        }
        (None, Some(region)) if !OTHER_DOMAINS.iter().any(|other| region.starts_with(other)) => {
            // A certificate for *.s3… is none for a.b.s3…
            let hosted = command.addressing != Addressing::Path && !bucket.contains('.');
            builder.with_virtual_hosted_style_request(hosted)
        }
        (None, Some(region)) => return Err(Stop::Handover(format!("the region {region} has hosts of its own"))),
        (None, None) => return Err(Stop::Handover("neither a region nor an endpoint is given".into())),
    };
    builder = match (command.encryption.as_deref(), &command.kms_key) {
        (None, None) => builder,
        (Some("aws:kms"), Some(key)) => builder.with_sse_kms_encryption(key),
        (Some(which), None) => {
            // The library does not export this key's type.
            let key = "aws_server_side_encryption".parse::<AmazonS3ConfigKey>();
            let key = key.map_err(|error| Stop::general(format!("encryption is not to be had: {error}")))?;
            builder.with_config(key, which)
        }
        _ => return Err(Stop::Handover("a key for an encryption that takes none".into())),
    };
    let store = credentials(opening, builder, region)?.build();
    let store = store.map_err(|error| Stop::Handover(format!("the settings are not understood: {error}")))?;
    Ok(Opened { store, path: path.to_owned() })
}

/// Where the keys come from, in boto's order.
fn credentials<C>(opening: &Opening<C>, builder: AmazonS3Builder, region: Option<&str>) -> Result<AmazonS3Builder> {
    let variable = |name: &str| opening.variable(name);
    if let Some(key) = variable("AWS_ACCESS_KEY_ID") {
        let Some(secret) = variable("AWS_SECRET_ACCESS_KEY") else {
            return Err(Stop::Handover("there is a key's id and no secret".into()));
        };
        let builder = builder.with_access_key_id(key).with_secret_access_key(secret);
        return Ok(match variable("AWS_SESSION_TOKEN") {
            Some(token) => builder.with_token(token),
            None => builder,
        });
    }
    if let (Some(file), Some(role)) = (variable("AWS_WEB_IDENTITY_TOKEN_FILE"), variable("AWS_ROLE_ARN")) {
        if region.is_none() || variable("AWS_STS_REGIONAL_ENDPOINTS").is_some_and(|which| which != "regional") {
            return Err(Stop::Handover("a role is to be taken on, in no region".into()));
        }
        let session = variable("AWS_ROLE_SESSION_NAME").unwrap_or("barman-cloud-wal");
        return Ok(builder
            .with_config(AmazonS3ConfigKey::WebIdentityTokenFile, file)
            .with_config(AmazonS3ConfigKey::RoleArn, role)
            .with_config(AmazonS3ConfigKey::RoleSessionName, session));
    }
    if let Some(path) = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        return Ok(builder.with_config(AmazonS3ConfigKey::ContainerCredentialsRelativeUri, path));
    }
    if let Some(address) = variable("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
        let Some(file) = variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") else {
            return Err(Stop::Handover("credentials come from an address without a token file".into()));
        };
        return Ok(builder
            .with_config(AmazonS3ConfigKey::ContainerCredentialsFullUri, address)
            .with_config(AmazonS3ConfigKey::ContainerAuthorizationTokenFile, file));
    }
    match variable("AWS_EC2_METADATA_DISABLED") {
        Some(text) if text.eq_ignore_ascii_case("true") => Err(Stop::Handover("there are no credentials".into())),
        _ => Ok(builder),
    }
}

/// Bucket and path of `s3://bucket/path`.
fn address(url: &str) -> Result<(&str, &str)> {
    let unusual = || Stop::Handover(format!("{url} is not a plain s3:// address"));
    let rest = url.strip_prefix("s3://").ok_or_else(unusual)?;
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if bucket.is_empty() || !bucket.bytes().all(name) || path.contains(['?', '#', '%', ';']) {
        return Err(unusual());
    }
    Ok((bucket, path.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_barman_does() {
        assert_eq!(address("s3://backups/"), Ok(("backups", "")));
        assert_eq!(address("s3://backups"), Ok(("backups", "")));
        assert_eq!(address("s3://backups//team/a/"), Ok(("backups", "team/a/")));
        for other in
            ["", "s3://", "s3:///a", "S3://b", "gs://b", "s3://b:9/a", "s3://u@b/a", "s3://b/a?x", "s3://b/a%20"]
        {
            assert!(matches!(address(other), Err(Stop::Handover(_))), "{other}");
        }
    }
}
