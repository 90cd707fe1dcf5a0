//! How the database is backed up.

use super::{choices::Choices, names, parse_mebibytes, sizes::Defaults};
use crate::error::{Result, usage};

/// Backups of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Where they go.
    pub store: BackupStore,
    /// How far back every moment can be restored: `7d`, `4w` or `2m`.
    pub keep: String,
    /// When base backups are taken: second, minute, hour, day of the month, month, day of the week; UTC.
    pub schedule: String,
}

/// Where backups go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupStore {
    /// A store that stackctl installs.
    InCluster {
        /// Size of its volume, a Kubernetes quantity.
        storage: String,
    },
    /// A bucket that there is already.
    Bucket {
        /// The S3 endpoint, e.g. `https://s3.example.com`.
        endpoint: String,
        /// The bucket, and a folder in it if need be: `backups/team-a`.
        bucket: String,
        /// A Secret in the stack's namespace with `ACCESS_KEY_ID` and `SECRET_ACCESS_KEY`.
        secret: String,
        /// The region that requests are signed for; `None`: the usual `us-east-1`.
        region: Option<String>,
        /// A Secret in the stack's namespace with the certificate of the authority that the endpoint's comes from, as
        /// `ca.crt`; `None`: one that everybody trusts.
        ca: Option<String>,
    },
}

/// Checks what was chosen, and adds the defaults, which are those of the stack's size.
pub(super) fn parse(chosen: &Choices, of_size: &Defaults) -> Result<Backup> {
    let store = match &chosen.backup_s3 {
        Some(text) => parse_bucket(text, chosen.backup_s3_region.clone(), chosen.backup_s3_ca.clone())?,
        None => {
            let beside = [("region", &chosen.backup_s3_region), ("ca", &chosen.backup_s3_ca)];
            if let Some((name, _)) = beside.iter().find(|(_, value)| value.is_some()) {
                return Err(usage(format!("--backup-s3-{name} is about a bucket, and there is no --backup-s3")).into());
            }
            let storage = chosen.backup_storage.clone().unwrap_or_else(|| of_size.backup_storage.into());
            parse_mebibytes("--backup-storage", &storage)?;
            BackupStore::InCluster { storage }
        }
    };
    let keep = chosen.backup_keep.clone().unwrap_or_else(|| of_size.backup_keep.into());
    let (number, unit) = keep.split_at(keep.len().saturating_sub(1));
    if !matches!(unit, "d" | "w" | "m") || number.parse::<u16>().ok().is_none_or(|number| number == 0) {
        return Err(usage(format!("--backup-keep {keep:?} is no length of time"))
            .remedy("write it like 7d, 4w or 2m: days, weeks or months")
            .into());
    }
    let schedule = chosen.backup_schedule.clone().unwrap_or_else(|| "0 0 3 * * *".into());
    if schedule.split_whitespace().count() != 6 {
        return Err(usage(format!("--backup-schedule {schedule:?} has not six fields"))
            .remedy(
                "second, minute, hour, day of the month, month, day of the week; every night at three: \"0 0 3 * * *\"",
            )
            .into());
    }
    Ok(Backup { store, keep, schedule })
}

/// Parses `endpoint,bucket,secret`.
fn parse_bucket(text: &str, region: Option<String>, ca: Option<String>) -> Result<BackupStore> {
    if let Some(name) = &ca {
        names::check_subdomain("Secret", name)?;
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if let Some(region) = region.as_ref().filter(|region| region.is_empty() || !region.chars().all(is_plain)) {
        return Err(usage(format!("--backup-s3-region {region:?} is no region"))
            .remedy("write it like eu-west-3")
            .into());
    }
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if let [endpoint, bucket, secret] = parts[..] {
        let address = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
        if address.is_some_and(|address| !address.is_empty())
            && !bucket.is_empty()
            && !secret.is_empty()
            && bucket != "s3://"
        {
            if endpoint.contains('@') {
                // Not shown: it may hold a key.
                return Err(usage("--backup-s3 has credentials in its endpoint")
                    .remedy("they belong into the Secret")
                    .into());
            }
            names::check_subdomain("Secret", secret)?;
            // As the tools of S3 write it: `s3://backups/team-a`.
            let bucket = bucket.strip_prefix("s3://").unwrap_or(bucket).trim_matches('/');
            let (endpoint, bucket) = (endpoint.trim_end_matches('/').into(), bucket.into());
            return Ok(BackupStore::Bucket { endpoint, bucket, secret: secret.into(), region, ca });
        }
    }
    Err(usage(format!("--backup-s3 {text:?} is not endpoint,bucket,secret"))
        .remedy("write it like https://s3.example.com,backups/team-a,s3-credentials")
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::{Global, StackArgs},
        config::{Config, Options},
    };

    #[test]
    fn a_bucket_is_named_by_its_endpoint_and_a_secret() {
        let parse_bucket = |text: &str| parse_bucket(text, None, None);
        let store = parse_bucket("https://s3.example.com/, /backups/team-a/ ,keys").unwrap();
        let (endpoint, bucket, secret) = ("https://s3.example.com".into(), "backups/team-a".into(), "keys".into());
        assert_eq!(store, BackupStore::Bucket { endpoint, bucket, secret, region: None, ca: None });
        assert_eq!(store, parse_bucket("https://s3.example.com,s3://backups/team-a,keys").unwrap());
        assert!(parse_bucket("https://s3.example.com,backups,minio.creds").is_ok(), "a Secret's name may have dots");
        for text in [
            "",
            "a,b",
            "s3.example.com,b,c",
            "https://,b,c",
            "https://a,,c",
            "https://a,s3://,c",
            "https://a,b,Not_A_Name",
        ] {
            assert!(parse_bucket(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_region_and_an_authority_belong_to_a_bucket() {
        let load = |bucket: Option<&str>, region: &str, ca: &str| {
            let args = StackArgs {
                backup_s3: bucket.map(str::to_owned),
                backup_s3_region: Some(region.into()),
                backup_s3_ca: Some(ca.into()),
                ..StackArgs::default()
            };
            Config::load(&Global::default(), &Options { stack: Some(&args), ..Options::default() })
        };
        let bucket = Some("https://s3.example.com,b,keys");
        let loaded = load(bucket, "eu-west-3", "private-ca").unwrap().backup.unwrap().store;
        let BackupStore::Bucket { region, ca, .. } = loaded else { panic!("{loaded:?}") };
        assert_eq!((region.as_deref(), ca.as_deref()), (Some("eu-west-3"), Some("private-ca")));
        for (bucket, region, ca) in [(None, "eu-west-3", "ca"), (bucket, "eu west", "ca"), (bucket, "eu-west-3", "C A")]
        {
            assert!(load(bucket, region, ca).is_err(), "{bucket:?} {region} {ca}");
        }
    }

    #[test]
    fn credentials_in_an_endpoint_are_refused_and_not_repeated() {
        let refused = parse_bucket("https://key:planted@s3.example.com,b,keys", None, None).unwrap_err();
        assert!(!crate::error::one_line(&refused).contains("planted"));
    }

    #[test]
    fn how_backups_are_kept_is_checked() {
        let load = |keep: &str, schedule: &str| {
            let args = StackArgs {
                backup_keep: Some(keep.into()),
                backup_schedule: Some(schedule.into()),
                ..StackArgs::default()
            };
            Config::load(&Global::default(), &Options { stack: Some(&args), ..Options::default() })
        };
        assert!(load("2w", "0 0 */6 * * *").is_ok());
        for (keep, schedule) in [("2", "0 0 3 * * *"), ("0d", "0 0 3 * * *"), ("", "0 0 3 * * *"), ("7d", "0 3 * * *")]
        {
            assert!(load(keep, schedule).is_err(), "{keep} {schedule}");
        }
    }
}
