//! The ledger: an append-only file outside the cluster, on disk before it counts.
//!
//! One record a line, `CHECKSUM JSON`, the checksum being the first eight hex digits of the JSON's
//! SHA-256. A crash can leave at most an unfinished last line, which is left out when the file is read;
//! a broken line before the last is an error, because then something else has touched the file.
//!
//! A thread of its own writes. It takes all that has piled up, writes it, syncs it once and only then says
//! so to those who wait: the rate of records is not limited by the rate of syncs.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::{
    events::DrillEvent,
    history::{Attempt, History, Micros, Outcome, Stream},
};
use crate::error::Result;

/// The version of the file's format.
pub const SCHEMA: u32 = 1;

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "lowercase")]
pub enum LedgerRecord {
    /// The first line: whose ledger this is.
    Run {
        /// [`SCHEMA`].
        schema: u32,
        /// The run's name.
        run: String,
        /// The scenario's id.
        scenario: String,
    },
    /// A write is about to be handed out to be sent.
    Intent {
        /// Its key.
        key: u64,
        /// Its way.
        stream: Stream,
        /// When it is to be sent.
        due: Micros,
    },
    /// What came of it.
    Outcome {
        /// Its key.
        key: u64,
        /// When it was sent, if it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sent: Option<Micros>,
        /// When its outcome was known.
        done: Micros,
        /// The outcome.
        outcome: Outcome,
    },
    /// Something that was seen in the cluster, or done to it.
    Event(DrillEvent),
}

enum Message {
    Append(Vec<LedgerRecord>, Option<oneshot::Sender<()>>),
    Close(oneshot::Sender<Result<()>>),
}

/// The writing end; cheap to clone. When the disk fails, every later call fails.
#[derive(Debug, Clone)]
pub struct Ledger {
    sender: std::sync::mpsc::Sender<Message>,
    path: PathBuf,
}

impl Ledger {
    /// Begins a new ledger with its first record.
    ///
    /// # Errors
    /// A file that exists already or that can't be made.
    pub fn create(path: &Path, run: &str, scenario: &str) -> Result<Ledger> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(path)
            .with_context(|| format!("cannot create the ledger {}", path.display()))?;
        // The file's name must survive a crash as well as its content.
        if let Some(folder) = path.parent() {
            File::open(folder).and_then(|folder| folder.sync_all()).context("cannot sync the ledger's folder")?;
        }
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::Builder::new().name("ledger".into()).spawn(move || write_all(file, &receiver))?;
        let ledger = Ledger { sender, path: path.to_owned() };
        ledger.append(vec![LedgerRecord::Run { schema: SCHEMA, run: run.into(), scenario: scenario.into() }])?;
        Ok(ledger)
    }

    /// Appends records without waiting for the disk.
    ///
    /// # Errors
    /// The writer has ended: the disk failed before.
    pub fn append(&self, records: Vec<LedgerRecord>) -> Result<()> {
        self.sender.send(Message::Append(records, None)).ok().with_context(|| self.broken())
    }

    /// Appends records and waits until they are on disk.
    ///
    /// # Errors
    /// The disk fails.
    pub async fn append_durably(&self, records: Vec<LedgerRecord>) -> Result<()> {
        let (done, on_disk) = oneshot::channel();
        self.sender.send(Message::Append(records, Some(done))).ok().with_context(|| self.broken())?;
        on_disk.await.ok().with_context(|| self.broken())
    }

    /// Writes what is left and ends.
    ///
    /// # Errors
    /// The first error of the disk, if there was one.
    pub async fn close(self) -> Result<()> {
        let (done, closed) = oneshot::channel();
        self.sender.send(Message::Close(done)).ok().with_context(|| self.broken())?;
        closed.await.ok().with_context(|| self.broken())?
    }

    fn broken(&self) -> String {
        format!("the ledger {} can no longer be written", self.path.display())
    }
}

fn write_all(mut file: File, receiver: &std::sync::mpsc::Receiver<Message>) {
    // When writing fails the thread ends, the senders see a closed channel, and the waiting ones get nothing:
    // nothing counts that is not on disk.
    while let Ok(first) = receiver.recv() {
        let mut waiting = Vec::new();
        let mut closing = None;
        let mut text = String::new();
        for message in std::iter::once(first).chain(receiver.try_iter()) {
            match message {
                Message::Append(records, done) => {
                    records.iter().for_each(|record| line(record, &mut text));
                    waiting.extend(done);
                }
                Message::Close(done) => closing = Some(done),
            }
        }
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
        if let Some(closing) = closing {
            let _ = closing.send(written.map_err(|error| anyhow::anyhow!("cannot write the ledger: {error}")));
            return;
        }
        if written.is_err() {
            return;
        }
        for done in waiting {
            // Who no longer waits does not need to know.
            let _ = done.send(());
        }
    }
}

fn line(record: &LedgerRecord, text: &mut String) {
    // Plain data with string keys: it can't fail to serialize.
    let json = serde_json::to_string(record).unwrap_or_default();
    text.push_str(&checksum(&json));
    text.push(' ');
    text.push_str(&json);
    text.push('\n');
}

fn checksum(json: &str) -> String {
    Sha256::digest(json.as_bytes())[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A ledger as it was read back.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerContent {
    /// The run's name.
    pub run: String,
    /// The scenario's id.
    pub scenario: String,
    /// Every attempt.
    pub history: History,
    /// Every event, in the order of its record.
    pub events: Vec<DrillEvent>,
}

/// Reads a ledger. An unfinished last line is left out.
///
/// # Errors
/// A file that can't be read, another format, a broken line, an outcome without an intent, a key used twice.
pub fn read(path: &Path) -> Result<LedgerContent> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the ledger {}", path.display()))?;
    parse(&bytes).with_context(|| format!("the ledger {} is broken", path.display()))
}

fn parse(bytes: &[u8]) -> Result<LedgerContent> {
    let finished = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let text = std::str::from_utf8(&bytes[..finished])?;
    let mut lines = text.lines().enumerate();
    let Some((_, first)) = lines.next() else { bail!("it is empty") };
    let LedgerRecord::Run { schema, run, scenario } = record(first).context("line 1")? else {
        bail!("line 1 does not say whose ledger it is");
    };
    if schema != SCHEMA {
        bail!("its format is version {schema}, this program reads version {SCHEMA}");
    }
    let mut attempts: BTreeMap<u64, Attempt> = BTreeMap::new();
    let mut events = Vec::new();
    for (number, line) in lines {
        let number = number + 1;
        match record(line).with_context(|| format!("line {number}"))? {
            LedgerRecord::Run { .. } => bail!("line {number} begins a second run"),
            LedgerRecord::Intent { key, stream, due } => {
                let outcome = Outcome::Unknown { why: "no outcome was recorded".into() };
                let attempt = Attempt { key, stream, due, sent: None, done: None, outcome };
                if attempts.insert(key, attempt).is_some() {
                    bail!("line {number} uses key {key} a second time");
                }
            }
            LedgerRecord::Outcome { key, sent, done, outcome } => {
                let Some(attempt) = attempts.get_mut(&key) else {
                    bail!("line {number} is an outcome of key {key}, which has no intent");
                };
                if attempt.done.is_some() {
                    bail!("line {number} is a second outcome of key {key}");
                }
                (attempt.sent, attempt.done, attempt.outcome) = (sent, Some(done), outcome);
            }
            LedgerRecord::Event(event) => events.push(event),
        }
    }
    Ok(LedgerContent { run, scenario, history: History { attempts }, events })
}

fn record(line: &str) -> Result<LedgerRecord> {
    let Some((sum, json)) = line.split_once(' ') else { bail!("no checksum") };
    if sum != checksum(json) {
        bail!("its checksum is {sum}, its content's is {}", checksum(json));
    }
    Ok(serde_json::from_str(json)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drills::model::{events::EventKind, history::Place};

    fn intent(key: u64) -> LedgerRecord {
        LedgerRecord::Intent { key, stream: Stream::Sql, due: key * 10 }
    }

    fn outcome(key: u64) -> LedgerRecord {
        let place = Place { timeline: 1, lsn: "0/3000148".parse().unwrap(), server: "10.0.0.7".into() };
        let outcome = Outcome::Acknowledged { place: Some(place) };
        LedgerRecord::Outcome { key, sent: Some(key * 10), done: key * 10 + 3, outcome }
    }

    async fn written(records: Vec<LedgerRecord>) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let ledger = Ledger::create(&path, "r1", "primary-delete").unwrap();
        ledger.append_durably(records).await.unwrap();
        ledger.close().await.unwrap();
        (dir, path)
    }

    #[tokio::test]
    async fn what_was_written_is_read_back() {
        let event = DrillEvent { at: 7, kind: EventKind::Injected, text: "pod deleted".into() };
        let (_dir, path) = written(vec![intent(1), intent(2), outcome(1), LedgerRecord::Event(event.clone())]).await;
        let content = read(&path).unwrap();
        assert_eq!((content.run.as_str(), content.scenario.as_str()), ("r1", "primary-delete"));
        assert_eq!(content.events, [event]);
        assert!(content.history.attempts[&1].acknowledged());
        assert!(matches!(content.history.attempts[&2].outcome, Outcome::Unknown { .. }), "no outcome is unknown");
    }

    #[tokio::test]
    async fn intents_are_in_the_file_before_the_call_returns() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let ledger = Ledger::create(&path, "r1", "x").unwrap();
        for key in 0..20 {
            ledger.append_durably(vec![intent(key)]).await.unwrap();
            assert_eq!(read(&path).unwrap().history.attempts.len(), usize::try_from(key).unwrap() + 1);
        }
    }

    #[tokio::test]
    async fn a_crash_at_any_byte_loses_only_the_unfinished_line() {
        let (_dir, path) = written((0..5).flat_map(|key| [intent(key), outcome(key)]).collect()).await;
        let bytes = std::fs::read(&path).unwrap();
        let first = bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
        for end in first..=bytes.len() {
            let content = parse(&bytes[..end]).unwrap();
            let lines = bytes[..end].iter().filter(|b| **b == b'\n').count() - 1;
            assert_eq!(content.history.attempts.len(), lines.div_ceil(2));
        }
    }

    #[tokio::test]
    async fn a_changed_byte_is_noticed() {
        let (_dir, path) = written(vec![intent(1), outcome(1)]).await;
        let bytes = std::fs::read(&path).unwrap();
        for position in 0..bytes.len() - 1 {
            let mut changed = bytes.clone();
            changed[position] ^= 1;
            assert!(parse(&changed).is_err(), "byte {position}");
        }
    }

    #[tokio::test]
    async fn a_key_is_used_once_and_an_outcome_has_an_intent() {
        for records in [vec![intent(1), intent(1)], vec![outcome(1)], vec![intent(1), outcome(1), outcome(1)]] {
            let (_dir, path) = written(records).await;
            assert!(read(&path).is_err());
        }
    }

    #[tokio::test]
    async fn many_writers_share_the_syncs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let ledger = Ledger::create(&path, "r1", "x").unwrap();
        let writers = (0..2_000).map(|key| {
            let ledger = ledger.clone();
            tokio::spawn(async move { ledger.append_durably(vec![intent(key)]).await.unwrap() })
        });
        futures::future::join_all(writers).await;
        assert_eq!(read(&path).unwrap().history.attempts.len(), 2_000);
    }

    #[test]
    fn a_ledger_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ledger"), "x").unwrap();
        assert!(Ledger::create(&dir.path().join("ledger"), "r1", "x").is_err());
    }

    #[test]
    fn a_ledger_of_8b80009_is_read_and_written_as_it_was() {
        let text = include_str!("../../../tests/compat/8b80009/ledger");
        let content = parse(text.as_bytes()).unwrap();
        assert_eq!((content.run.as_str(), content.scenario.as_str()), ("20261128-061500-control", "control"));
        assert_eq!((content.history.attempts.len(), content.events.len()), (6, 12), "one event of each kind");
        let mut written = String::new();
        text.lines().for_each(|text| line(&record(text).unwrap(), &mut written));
        assert_eq!(written, text);
    }
}
