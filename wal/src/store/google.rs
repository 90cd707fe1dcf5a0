//! Google Cloud Storage, with the credentials that its own libraries would find.

use object_store::client::HttpConnector;
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};

use super::{Opened, Opening};
use crate::stop::{Result, Stop};

/// Settings of Google's libraries that nothing is known of here.
const UNKNOWN: [&str; 3] = ["STORAGE_EMULATOR_HOST", "GOOGLE_CLOUD_UNIVERSE_DOMAIN", "CLOUDSDK_CONFIG"];
/// The other way to write `gs://`.
const CONSOLE: &str = "https://console.cloud.google.com/storage/browser/";

/// Opens the bucket.
pub(super) fn open<C>(opening: &Opening<C>) -> Result<Opened<GoogleCloudStorage>>
where
    C: HttpConnector + Clone,
{
    let command = opening.command;
    opening.none_of(&UNKNOWN)?;
    if !command.tags.is_empty() || !command.history_tags.is_empty() {
        return Err(Stop::Handover("tags in a Google store".into()));
    }
    let (bucket, path) = address(&command.url)?;
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_retry(opening.retry.clone())
        .with_http_connector(opening.connector.clone());
    if let Some(file) = opening.variable("GOOGLE_APPLICATION_CREDENTIALS") {
        builder = builder.with_application_credentials(file);
    }
    let store = builder.build();
    let store = store.map_err(|error| Stop::Handover(format!("the settings are not understood: {error}")))?;
    Ok(Opened { store, path: path.to_owned() })
}

/// Bucket and path of either form.
fn address(url: &str) -> Result<(&str, &str)> {
    let unusual = || Stop::Handover(format!("{url} is not a plain gs:// address"));
    let rest = url.strip_prefix("gs://").or_else(|| url.strip_prefix(CONSOLE)).ok_or_else(unusual)?;
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if bucket.is_empty() || !bucket.bytes().all(name) || path.contains(['?', '#', '%', ';']) {
        return Err(unusual());
    }
    Ok((bucket, path.trim_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_barman_does() {
        assert_eq!(address("gs://b/team/"), Ok(("b", "team")));
        assert_eq!(address("https://console.cloud.google.com/storage/browser/b/a/c"), Ok(("b", "a/c")));
        for other in ["s3://b/", "gs:///a", "https://storage.googleapis.com/b", "gs://b/a?x"] {
            assert!(matches!(address(other), Err(Stop::Handover(_))), "{other}");
        }
    }
}
