//! `stackctl backup list`: what can be restored, as the store itself tells it.

use jiff::Timestamp;
use serde_json::json;

use crate::{
    backup::{Catalog, Server, Store},
    cli::Global,
    commands::configured::configured,
    config::Options,
    context::Context,
    error::Result,
    ui::{
        self, Reporter, Style,
        human::{self, second},
    },
};

/// Prints the store's base backups and WAL, server by server.
///
/// # Errors
/// No store, or one that does not answer or refuses.
pub async fn run(global: &Global, style: Style) -> Result<u8> {
    let cx = Context::new(configured(global, &Options::default())?, Reporter::discard())?;
    let kube = cx.kube().await?;
    let namespace = &cx.config.stack.namespace;
    let store = Store::required(kube, namespace).await?;
    let catalog = store.catalog(kube, namespace, cx.deadline).await?;
    if style.mode == ui::Mode::Json {
        ui::out(&serde_json::to_string_pretty(&as_json(&store, &catalog))?);
    } else {
        ui::out(&ui::with_target(&as_text(&store, &catalog, Timestamp::now())));
    }
    Ok(0)
}

fn as_json(store: &Store, catalog: &Catalog) -> serde_json::Value {
    let servers = catalog.servers.iter().map(|(name, server)| {
        let value = json!({
            "backups": server.backups, "wal": server.wal, "missing_segments": server.missing_segments(),
            "gap": server.gap(),
            "first_restorable": server.first_moment(), "last_restorable": server.last_moment(),
        });
        (name.clone(), value)
    });
    let servers: serde_json::Map<_, _> = servers.collect();
    json!({"endpoint": store.endpoint, "destination": store.destination, "keep": store.keep, "servers": servers})
}

fn as_text(store: &Store, catalog: &Catalog, now: Timestamp) -> String {
    let mut text = format!("store       {}", store.describe());
    if let Some(keep) = &store.keep {
        text.push_str(&format!(", every moment of the last {keep} is kept"));
    }
    text.push('\n');
    if catalog.servers.is_empty() {
        text.push_str("it is empty: nothing was archived yet\n");
    }
    for (name, server) in &catalog.servers {
        text.push_str(&format!("\nserver      {name}\n"));
        text.push_str(&restorable(server, now));
        text.push_str(&wal(server, now));
        if !server.backups.is_empty() {
            text.push_str(&format!("\n{:<17} {:<21} {:>8} {:>11}  STATE\n", "BACKUP", "ENDED", "AGE", "STORED"));
        }
        for backup in server.backups.iter().rev() {
            let ended = backup.ended.map_or_else(|| "-".into(), second);
            let age = backup.ended.map_or_else(|| "-".into(), |ended| human::age(now, ended));
            let state = backup.state();
            let stored = human::bytes(backup.stored);
            text.push_str(&format!("{:<17} {ended:<21} {age:>8} {stored:>11}  {state}\n", backup.id));
        }
    }
    text.trim_end().to_owned()
}

fn restorable(server: &Server, now: Timestamp) -> String {
    match (server.first_moment(), server.last_moment()) {
        (Some(first), Some(last)) if server.gap() > 0 => format!(
            "restorable  from {} to {} for sure; nothing after the WAL that is missing, until a base backup is taken: \
             stackctl backup create\n",
            second(first),
            second(last)
        ),
        (Some(first), Some(last)) => {
            format!("restorable  from {} to {} ({} ago)\n", second(first), second(last), human::age(now, last))
        }
        (Some(first), None) => format!("restorable  {} only: no WAL was archived\n", second(first)),
        _ => "restorable  nothing yet: there is no complete base backup\n".into(),
    }
}

fn wal(server: &Server, now: Timestamp) -> String {
    let Some(wal) = &server.wal else { return String::new() };
    let gaps = match server.missing_segments() {
        0 => "without a gap".into(),
        1 => "1 segment is missing".into(),
        missing => format!("{missing} segments are missing"),
    };
    format!(
        "WAL         {} to {}, {} segments, {}, {gaps}; the newest came {} ago\n",
        wal.first,
        wal.last,
        wal.segments.len(),
        human::bytes(wal.stored),
        human::age(now, wal.archived)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::catalog::Wal;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn store() -> Store {
        Store {
            endpoint: "http://backup-store:7070".into(),
            destination: "s3://backups/".into(),
            secret: "backup-store".into(),
            region: None,
            ca: None,
            pull_secret: None,
            keep: Some("7d".into()),
            noted: serde_json::Value::Null,
        }
    }

    fn catalog() -> Catalog {
        let backups = json!([
            {"id": "20261123T030000", "stored": 2048, "status": "FAILED", "error": "disk full"},
            {"id": "20261124T030000", "stored": 4_823_449, "status": "DONE", "begin_wal": "000000010000000000000003",
             "end_time": "2026-11-24T03:00:07Z"},
        ]);
        let wal = Wal {
            first: "000000010000000000000001".into(),
            last: "000000010000000000000005".into(),
            segments: ["1", "2", "3", "5"].map(|n| format!("00000001000000000000000{n}")).to_vec(),
            stored: 60_000,
            archived: at("2026-11-24T11:04:48Z"),
        };
        let server = Server { backups: serde_json::from_value(backups).unwrap(), wal: Some(wal) };
        Catalog { servers: [("user-db".to_owned(), server)].into() }
    }

    #[test]
    fn the_list_tells_what_can_be_restored() {
        insta::assert_snapshot!(as_text(&store(), &catalog(), at("2026-11-24T11:05:00Z")), @r"
        store       s3://backups/ at http://backup-store:7070, every moment of the last 7d is kept

        server      user-db
        restorable  from 2026-11-24T03:00:07Z to 2026-11-24T03:00:07Z for sure; nothing after the WAL that is missing, until a base backup is taken: stackctl backup create
        WAL         000000010000000000000001 to 000000010000000000000005, 4 segments, 58.6 KiB, 1 segment is missing; the newest came 12s ago

        BACKUP            ENDED                      AGE      STORED  STATE
        20261124T030000   2026-11-24T03:00:07Z      8h4m     4.6 MiB  complete
        20261123T030000   -                            -     2.0 KiB  disk full
        ");
    }

    #[test]
    fn an_empty_store_says_so() {
        let text = as_text(&store(), &Catalog::default(), at("2026-11-24T11:05:00Z"));
        assert!(text.ends_with("it is empty: nothing was archived yet"), "{text}");
    }

    #[test]
    fn programs_get_the_moments_too() {
        let value = as_json(&store(), &catalog());
        let server = &value["servers"]["user-db"];
        assert_eq!(server["first_restorable"], "2026-11-24T03:00:07Z");
        assert_eq!(server["missing_segments"], 1);
        assert_eq!(server["gap"], 1);
        assert_eq!(server["backups"][1]["stored"], 4_823_449);
    }
}
