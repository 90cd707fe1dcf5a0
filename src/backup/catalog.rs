//! What a store holds: base backups and WAL, by server, as the store itself tells it.

use std::collections::BTreeMap;

use anyhow::Context as _;
use jiff::{Timestamp, Zoned, fmt::strtime};
use serde::{Deserialize, Serialize};

use crate::error::{Failure, Result, failed};

/// Segments in one of the numbers that the second part of a segment's name counts, with 16 MiB a segment.
const SEGMENTS: u64 = 256;

/// The whole store. A server is a database's own history: a restored one writes a history of its own.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Catalog {
    /// By name.
    pub servers: BTreeMap<String, Server>,
}

/// One server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Server {
    /// The oldest first; unfinished ones among them.
    pub backups: Vec<BaseBackup>,
    /// The archived WAL; `None` when nothing was archived yet.
    pub wal: Option<Wal>,
}

/// A base backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BaseBackup {
    /// Barman's name for it, e.g. `20261124T104500`.
    pub id: String,
    /// The plugin's name for it.
    #[serde(rename(deserialize = "backup_name"))]
    pub name: Option<String>,
    /// `DONE`, or something else for one that must not be used.
    pub status: Option<String>,
    /// When it began.
    #[serde(rename(deserialize = "begin_time"), default, deserialize_with = "time")]
    pub began: Option<Timestamp>,
    /// When it ended: from here on moments can be restored.
    #[serde(rename(deserialize = "end_time"), default, deserialize_with = "time")]
    pub ended: Option<Timestamp>,
    /// The first segment that it needs.
    pub begin_wal: Option<String>,
    /// The identifier of the database that it is of: PostgreSQL gives each its own when it is made.
    #[serde(rename(deserialize = "systemid"), default)]
    pub system_id: Option<String>,
    /// Bytes in the store.
    pub stored: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// The WAL that it begins with is not in the store, though later WAL is: it was archived elsewhere, or lost.
    #[serde(rename = "without_log", skip_deserializing)]
    pub without_wal: bool,
}

/// The archived WAL of a server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Wal {
    /// The first segment.
    pub first: String,
    /// The last segment.
    pub last: String,
    /// Every segment.
    #[serde(skip_serializing)]
    pub segments: Vec<String>,
    /// Bytes in the store.
    pub stored: u64,
    /// When the newest segment arrived: what was committed before it was cut is in the store.
    #[serde(deserialize_with = "moment")]
    pub archived: Timestamp,
}

impl BaseBackup {
    /// Whether it can be restored.
    pub fn complete(&self) -> bool {
        self.status.as_deref() == Some("DONE") && self.ended.is_some() && !self.without_wal
    }

    /// Whether it can be restored, or else why not.
    pub fn state(&self) -> &str {
        match &self.error {
            _ if self.complete() => "complete",
            Some(error) => error,
            None if self.without_wal => "its WAL is not there",
            None => "unfinished",
        }
    }
}

impl Server {
    /// Looks for the WAL that each base backup begins with. One that no later WAL has come after may still be archived:
    /// a standby's backup ends before its primary has the segment full.
    fn look_for_log(&mut self) {
        let Some(wal) = &self.wal else { return };
        for backup in &mut self.backups {
            let Some(begin) = &backup.begin_wal else { continue };
            backup.without_wal = !wal.segments.contains(begin) && wal.segments.iter().any(|segment| segment > begin);
        }
    }

    /// The base backups that can be restored, the oldest first.
    pub fn complete(&self) -> impl DoubleEndedIterator<Item = &BaseBackup> {
        self.backups.iter().filter(|backup| backup.complete())
    }

    /// The first moment that can be restored.
    pub fn first_moment(&self) -> Option<Timestamp> {
        self.complete().filter_map(|backup| backup.ended).min()
    }

    /// Until when everything that was committed can be restored for sure: to the newest segment, or, where the WAL has a
    /// gap after the newest usable base backup, to that one.
    pub fn last_moment(&self) -> Option<Timestamp> {
        let wal = self.wal.as_ref()?;
        let newest = self.complete().filter_map(|backup| backup.ended).max()?;
        Some(if self.gap() == 0 { wal.archived.max(newest) } else { newest })
    }

    /// Segments that the archive lacks after the newest usable base backup: nothing that came after them can be restored.
    /// A primary that loses its volume leaves such a gap: its last full segment was on that volume only, as standbys
    /// do not archive what they are sent (`archive_mode = on`).
    pub fn gap(&self) -> u64 {
        self.missing_from(self.complete().filter_map(|backup| backup.begin_wal.as_deref()).max())
    }

    /// Segments that the archive lacks from the oldest usable base backup on: moments after such a gap can only be
    /// restored from a younger base backup.
    pub fn missing_segments(&self) -> u64 {
        self.missing_from(self.complete().filter_map(|backup| backup.begin_wal.as_deref()).min())
    }

    fn missing_from(&self, begin: Option<&str>) -> u64 {
        let Some(wal) = &self.wal else { return 0 };
        let mut numbers: Vec<u64> = wal
            .segments
            .iter()
            .filter(|segment| begin.is_some_and(|begin| segment.as_str() >= begin))
            .filter_map(|segment| number(segment))
            .collect();
        // A new timeline repeats the number at which it branched off.
        numbers.sort_unstable();
        numbers.dedup();
        match (numbers.first(), numbers.last()) {
            (Some(first), Some(last)) => last - first + 1 - numbers.len() as u64,
            _ => 0,
        }
    }
}

/// The number of segments of 16 MiB before this one, whatever its timeline; `None` when it is no segment's name.
pub fn number(segment: &str) -> Option<u64> {
    let high = u64::from_str_radix(segment.get(8..16)?, 16).ok()?;
    let offset = u64::from_str_radix(segment.get(16..24)?, 16).ok()?;
    Some(high * SEGMENTS + offset)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Servers { servers: BTreeMap<String, Server> },
    Refused { error: String, message: String },
}

impl Catalog {
    /// Reads what the reader printed; `store` is named in errors.
    ///
    /// # Errors
    /// The store did not answer or refused, in words for the user.
    pub fn parse(text: &str, store: &str, secret: &str) -> Result<Catalog> {
        match serde_json::from_str(text.trim()).context("the list of backups cannot be read")? {
            Answer::Servers { mut servers } => {
                servers.values_mut().for_each(Server::look_for_log);
                Ok(Catalog { servers })
            }
            Answer::Refused { error, message } => Err(refused(&error, &message, store, secret).into()),
        }
    }
}

fn refused(error: &str, message: &str, store: &str, secret: &str) -> Failure {
    match error {
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "AccessDenied" | "403" => {
            failed(format!("the store of backups ({store}) refuses the credentials of Secret {secret}: {error}"))
                .remedy(format!("correct the Secret {secret}; it is read anew at every use"))
        }
        "NoSuchBucket" | "404" => failed(format!("the store of backups ({store}) has no such bucket"))
            .remedy("create the bucket, or name another one: stackctl up --backup-s3 ENDPOINT,BUCKET,SECRET"),
        "EndpointConnectionError" | "ConnectTimeoutError" | "ReadTimeoutError" | "ConnectionClosedError" => {
            failed(format!("the store of backups ({store}) does not answer: {message}"))
                .remedy("a store in the cluster: stackctl status tells whether it runs")
                .remedy("a bucket of yours: its endpoint must be in reach of the cluster's pods")
        }
        "SSLError" => failed(format!("the certificate of the store of backups ({store}) is not trusted: {message}"))
            .remedy(
                "name an endpoint with a certificate of a public authority, or http:// in a network that you trust",
            ),
        _ => failed(format!("the store of backups ({store}) refuses: {message}")),
    }
}

/// Barman writes times as C's `ctime` with a zone (`Tue Nov 24 10:45:00 2026`, in UTC) or as ISO 8601.
fn time<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    Ok(text.as_deref().and_then(parse_time))
}

fn moment<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Timestamp, D::Error> {
    let text = String::deserialize(from)?;
    parse_time(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no time")))
}

fn parse_time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp);
    }
    if let Ok(zoned) = text.parse::<Zoned>() {
        return Some(zoned.timestamp());
    }
    let parsed = strtime::parse("%a %b %d %H:%M:%S %Y", text).ok()?;
    Some(parsed.to_datetime().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"servers": {"user-db": {
        "backups": [
            {"id": "20261124T100000", "stored": 10, "status": "FAILED", "error": "no"},
            {"id": "20261124T110000", "stored": 4194304, "status": "DONE", "backup_name": "backup-20261124110000",
             "begin_time": "Tue Nov 24 11:00:00 2026", "end_time": "Tue Nov 24 11:00:07 2026",
             "begin_wal": "000000010000000000000005", "end_wal": "000000010000000000000006", "timeline": "1"}],
        "wal": {"first": "000000010000000000000001", "last": "000000020000000000000008", "stored": 77,
            "segments": ["000000010000000000000001", "000000010000000000000005", "000000010000000000000006",
                         "000000020000000000000006", "000000020000000000000008"],
            "archived": "2026-11-24T11:05:00.250000+00:00"}}}}"#;

    fn server() -> Server {
        Catalog::parse(TEXT, "s", "x").unwrap().servers.remove("user-db").unwrap()
    }

    #[test]
    fn a_store_tells_what_can_be_restored() {
        let server = server();
        assert_eq!(server.complete().map(|backup| backup.id.as_str()).collect::<Vec<_>>(), ["20261124T110000"]);
        assert_eq!(server.first_moment().unwrap().to_string(), "2026-11-24T11:00:07Z");
        assert_eq!(
            server.last_moment().unwrap().to_string(),
            "2026-11-24T11:00:07Z",
            "7 is missing: no later for sure"
        );
        let whole = whole();
        assert_eq!(whole.last_moment().unwrap().to_string(), "2026-11-24T11:05:00.25Z");
        let mut new = whole;
        new.wal.as_mut().unwrap().archived = "2026-11-24T11:00:00Z".parse().unwrap();
        assert_eq!(new.last_moment(), new.first_moment(), "no segment came after it yet");
    }

    #[test]
    fn a_gap_before_the_newest_backup_is_no_loss() {
        let mut server = server();
        assert_eq!((server.missing_segments(), server.gap()), (1, 1));
        let mut later = server.backups[1].clone();
        later.begin_wal = Some("000000020000000000000008".into());
        later.ended = Some("2026-11-24T11:04:00Z".parse().unwrap());
        server.backups.push(later);
        assert_eq!((server.missing_segments(), server.gap()), (1, 0));
        assert_eq!(server.last_moment().unwrap().to_string(), "2026-11-24T11:05:00.25Z");
    }

    fn whole() -> Server {
        let mut whole = server();
        whole.wal.as_mut().unwrap().segments.push("000000020000000000000007".into());
        whole
    }

    #[test]
    fn a_gap_counts_from_the_oldest_usable_backup_on() {
        assert_eq!(server().missing_segments(), 1, "7 is missing; 2 to 4 are of no use");
        assert_eq!(whole().missing_segments(), 0);
    }

    #[test]
    fn a_backup_whose_first_log_is_elsewhere_is_not_complete() {
        let with = |segments: &[&str]| {
            let mut server = server();
            let all = segments.iter().map(|segment| format!("0000000100000000000000{segment}"));
            server.wal.as_mut().unwrap().segments = all.collect();
            server.look_for_log();
            server
        };
        assert_eq!(with(&["05", "06"]).backups[1].state(), "complete");
        let lost = with(&["06", "07"]);
        assert_eq!(lost.backups[1].state(), "its WAL is not there");
        assert!(lost.first_moment().is_none() && lost.backups[0].state() == "no");
        assert_eq!(with(&["03", "04"]).backups[1].state(), "complete", "its first segment is not full yet");
    }

    #[test]
    fn without_a_usable_backup_nothing_can_be_restored() {
        let mut server = server();
        server.backups.pop();
        assert!(server.first_moment().is_none() && server.last_moment().is_none());
        assert_eq!(server.missing_segments(), 0);
    }

    #[test]
    fn what_the_store_says_is_put_into_words() {
        let refused = |code: &str| {
            let text = format!(r#"{{"error": "{code}", "message": "m"}}"#);
            Catalog::parse(&text, "http://s", "keys").unwrap_err().to_string()
        };
        assert!(refused("InvalidAccessKeyId").contains("refuses the credentials of Secret keys"));
        assert!(refused("NoSuchBucket").contains("no such bucket"));
        assert!(refused("EndpointConnectionError").contains("does not answer"));
    }

    #[test]
    fn times_of_barman() {
        for text in ["Tue Nov 24 10:45:00 2026", "2026-11-24T10:45:00+00:00", "2026-11-24T10:45:00Z"] {
            assert_eq!(parse_time(text).unwrap().to_string(), "2026-11-24T10:45:00Z", "{text}");
        }
        assert!(parse_time("yesterday").is_none());
    }
}
