//! What to restore: the latest moment, a moment, or a base backup by its name.

use std::str::FromStr;

use jiff::{Timestamp, civil::DateTime};
use serde_json::{Value, json};

use super::catalog::{BaseBackup, Server};
use crate::error::{Failure, Result, failed, usage};

/// The moment to restore, as the user says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveryTarget {
    /// Everything that is in the store.
    Latest,
    /// What was committed up to this moment.
    Moment(Timestamp),
    /// What a base backup holds, by its id or its name.
    Backup(String),
}

impl FromStr for RecoveryTarget {
    type Err = Failure;

    fn from_str(text: &str) -> std::result::Result<Self, Failure> {
        let text = text.trim();
        if text == "latest" {
            return Ok(RecoveryTarget::Latest);
        }
        if let Ok(moment) = text.parse::<Timestamp>() {
            return Ok(RecoveryTarget::Moment(moment));
        }
        if text.parse::<DateTime>().is_ok() && text.contains(['-', ':']) {
            return Err(usage(format!("--to {text:?} does not say in which time zone"))
                .remedy(format!("for UTC: --to {}Z", text.replace(' ', "T"))));
        }
        let name = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
        if name {
            return Ok(RecoveryTarget::Backup(text.to_owned()));
        }
        Err(usage(format!("--to {text:?} is neither latest, nor a time, nor the name of a backup"))
            .remedy("a time is written like 2026-11-24T11:05:00Z; stackctl backup list shows the backups"))
    }
}

impl RecoveryTarget {
    /// For sentences.
    pub fn describe(&self) -> String {
        match self {
            RecoveryTarget::Latest => "the latest moment".into(),
            RecoveryTarget::Moment(moment) => moment.to_string(),
            RecoveryTarget::Backup(name) => format!("backup {name}"),
        }
    }

    /// The operator's `recoveryTarget`, from what `server` holds; nothing for the latest moment. `now` is for
    /// moments that are still to come.
    ///
    /// # Errors
    /// The store does not hold what it takes: says what can be restored instead.
    pub fn recovery(&self, server: &Server, now: Timestamp) -> Result<Option<Value>> {
        let first = server.first_moment().ok_or_else(|| {
            failed("the store has no complete base backup to start from").remedy("stackctl backup create takes one")
        })?;
        match self {
            RecoveryTarget::Latest => Ok(None),
            RecoveryTarget::Moment(moment) if *moment < first => {
                Err(failed(format!("{moment} is before the first backup"))
                    .remedy(format!("the first moment that can be restored is {first}"))
                    .into())
            }
            RecoveryTarget::Moment(moment) if *moment > now => {
                Err(usage(format!("{moment} is still to come")).remedy("--to latest restores everything").into())
            }
            RecoveryTarget::Moment(moment) => Ok(Some(json!({"targetTime": moment.to_string()}))),
            RecoveryTarget::Backup(name) => {
                let backup = find(server, name)?;
                // As soon as the copy is consistent, without what came after it.
                Ok(Some(json!({"backupID": backup.id, "targetImmediate": true})))
            }
        }
    }
}

fn find<'a>(server: &'a Server, name: &str) -> Result<&'a BaseBackup> {
    let named = |backup: &&BaseBackup| backup.id == name || backup.name.as_deref() == Some(name);
    match server.backups.iter().find(named) {
        Some(backup) if backup.complete() => Ok(backup),
        Some(backup) => Err(failed(format!("backup {name} cannot be restored: {}", backup.state()))
            .remedy("stackctl backup list shows the others")
            .into()),
        None => {
            let ids: Vec<_> = server.complete().map(|backup| backup.id.as_str()).collect();
            Err(usage(format!("there is no backup {name}")).remedy(format!("there are {}", ids.join(", "))).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        let backup = |id: &str, status: &str| {
            json!({"id": id, "stored": 1, "status": status, "backup_name": format!("backup-{id}"),
                "end_time": "2026-11-24T11:00:00Z", "error": (status != "DONE").then_some("disk full")})
        };
        serde_json::from_value(json!({"backups": [backup("b1", "FAILED"), backup("b2", "DONE")], "wal": null})).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn recovery(target: &str) -> Result<Option<Value>> {
        target.parse::<RecoveryTarget>()?.recovery(&server(), at("2026-11-24T12:00:00Z"))
    }

    #[test]
    fn what_can_be_said() {
        assert_eq!("latest".parse::<RecoveryTarget>().unwrap(), RecoveryTarget::Latest);
        let moment = RecoveryTarget::Moment(at("2026-11-24T10:05:00Z"));
        for text in ["2026-11-24T10:05:00Z", "2026-11-24T11:05:00+01:00", "2026-11-24 10:05:00Z"] {
            assert_eq!(text.parse::<RecoveryTarget>().unwrap(), moment, "{text}");
        }
        assert_eq!(
            "20261124T100500".parse::<RecoveryTarget>().unwrap(),
            RecoveryTarget::Backup("20261124T100500".into())
        );
        assert_eq!(
            "backup-20261124100500".parse::<RecoveryTarget>().unwrap(),
            RecoveryTarget::Backup("backup-20261124100500".into())
        );
        for text in ["", "a b", "yesterday!", "2026-11-24 10:05:00", "2026-11-24T10:05:00"] {
            assert!(text.parse::<RecoveryTarget>().is_err(), "{text}");
        }
        let error = "2026-11-24 10:05:00".parse::<RecoveryTarget>().unwrap_err();
        assert_eq!(error.remedies, ["for UTC: --to 2026-11-24T10:05:00Z"]);
    }

    #[test]
    fn what_the_operator_is_asked_for() {
        assert_eq!(recovery("latest").unwrap(), None);
        let moment = recovery("2026-11-24T12:30:00+01:00").unwrap().unwrap();
        assert_eq!(moment, json!({"targetTime": "2026-11-24T11:30:00Z"}));
        for name in ["b2", "backup-b2"] {
            assert_eq!(recovery(name).unwrap().unwrap(), json!({"backupID": "b2", "targetImmediate": true}));
        }
    }

    #[test]
    fn what_cannot_be_restored_is_told_with_what_can() {
        let told = |target: &str| {
            let error = recovery(target).unwrap_err();
            format!("{error}; {}", crate::error::remedies_of(&error).join("; "))
        };
        assert!(told("2026-11-24T10:59:59Z").contains("the first moment that can be restored is 2026-11-24T11:00:00Z"));
        assert!(told("2026-11-24T12:00:01Z").contains("still to come"));
        assert!(told("b1").contains("disk full"));
        assert!(told("b3").contains("there are b2"));
        let empty = Server { backups: Vec::new(), wal: None };
        let error = RecoveryTarget::Latest.recovery(&empty, at("2026-11-24T12:00:00Z")).unwrap_err();
        assert!(error.to_string().contains("no complete base backup"));
    }
}
