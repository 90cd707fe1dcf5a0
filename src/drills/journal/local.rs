//! The record on this machine: a file that names what is to be undone without the API server, which may be what is
//! down, and the process that runs the drill.

use std::{
    fs::{File, TryLockError},
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::DrillRecord;
use crate::{
    drills::undo::{Undo, undo_latest_first, undo_without_api_server},
    error::{Result, failed},
};

/// The place of the record on this machine; one a cluster. Whoever has written it holds a lock beside it until its
/// process ends, however that ends.
#[derive(Debug, Clone)]
pub struct LocalJournal {
    path: PathBuf,
    lock: Arc<Mutex<Option<File>>>,
}

/// The content of the file. Another version may have written it: names and fields stay as they are.
#[derive(Debug, Serialize, Deserialize)]
struct LocalRecord {
    /// The process that runs the drill, for people; in a record of 8b80009 it is all that tells whether it still runs.
    process: u32,
    /// The cluster's UID: that of its namespace `kube-system`. Unknown in a record of 8b80009.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    #[serde(flatten)]
    drill: DrillRecord,
}

impl LocalJournal {
    /// The place of the record for the cluster with this context, below the user's state folder.
    pub fn new(state: &Path, context: &str) -> LocalJournal {
        // A context's name may hold what a file's may not.
        let name: String = context.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let path = state.join("drills").join(format!("running-{name}.json"));
        LocalJournal { path, lock: Arc::default() }
    }

    /// The file's path, for people.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the record to the disk, before the fault: whole, or not at all, however the machine ends.
    ///
    /// # Errors
    /// A file that can't be written; another process runs a drill.
    pub fn write(&self, cluster: &str, drill: &DrillRecord) -> Result<()> {
        let cannot = || format!("cannot write {}", self.path.display());
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).with_context(cannot)?;
        if !self.take_lock()? {
            return Err(failed("another process on this machine runs a drill").remedy("wait for its end").into());
        }
        let record =
            LocalRecord { process: std::process::id(), cluster: Some(cluster.to_owned()), drill: drill.clone() };
        let beside = self.path.with_extension("part");
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&beside)?;
            file.write_all(&serde_json::to_vec(&record)?)?;
            file.sync_all()?;
            std::fs::rename(&beside, &self.path)?;
            // The name is on the disk when the folder is.
            File::open(folder)?.sync_all()
        };
        write().with_context(cannot)
    }

    /// Takes the lock beside the record; returns whether this process holds it now.
    fn take_lock(&self) -> Result<bool> {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_some() {
            return Ok(true);
        }
        let path = self.path.with_extension("lock");
        let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {
                *held = Some(file);
                Ok(true)
            }
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// Puts a record aside that is of another cluster than the one with this UID; returns where it is now.
    ///
    /// # Errors
    /// A record that can't be read or moved.
    pub fn set_aside_if_of_another(&self, cluster: &str) -> Result<Option<PathBuf>> {
        let Some(record) = self.read()? else { return Ok(None) };
        if record.cluster.is_none_or(|of| of == cluster) {
            return Ok(None);
        }
        let aside = self.path.with_extension("json.of-another-cluster");
        std::fs::rename(&self.path, &aside).with_context(|| format!("cannot move {}", self.path.display()))?;
        Ok(Some(aside))
    }

    /// Reads the changes that are recorded, none where there is no record.
    ///
    /// # Errors
    /// A record that can't be read.
    pub fn changes(&self) -> Result<Vec<Undo>> {
        Ok(self.read()?.map(|record| record.drill.undo).unwrap_or_default())
    }

    fn read(&self) -> Result<Option<LocalRecord>> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.path.display())),
        };
        let record = serde_json::from_slice(&text).map_err(|error| {
            failed(format!("{} can't be read: {error}", self.path.display()))
                .remedy("look into it for what the drill did, undo that by hand, and delete it")
        })?;
        Ok(Some(record))
    }

    /// Removes the record, if there is one.
    ///
    /// # Errors
    /// A file that can't be removed.
    pub fn remove(&self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Undoes what needs no API server, and returns whether there was a record. It stays until the rest is undone, too.
    ///
    /// # Errors
    /// A drill that is still running; a record that can't be read; what can't be undone.
    pub async fn undo_without_api_server(&self) -> Result<bool> {
        let Some(LocalRecord { process, cluster, drill }) = self.read()? else { return Ok(false) };
        let runs = match cluster {
            Some(_) => !self.take_lock()?,
            None => process != std::process::id() && is_alive(process),
        };
        if runs {
            return Err(failed(format!("process {process} on this machine is running the drill {}", drill.run))
                .remedy("wait for its end")
                .into());
        }
        undo_latest_first(&drill.undo, undo_without_api_server, || {})
            .await
            .with_context(|| format!("the drill {} can't be undone", drill.run))?;
        Ok(true)
    }
}

fn is_alive(process: u32) -> bool {
    let process = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    // Not allowed to ask means that there is one.
    process.is_some_and(|process| rustix::process::test_kill_process(process) != Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_record_is_written_found_and_removed() {
        let state = tempfile::tempdir().unwrap();
        let journal = LocalJournal::new(state.path(), "admin@kube/1");
        assert!(!journal.undo_without_api_server().await.unwrap());
        journal.write("u1", &DrillRecord { run: "r".into(), scenario: "s".into(), undo: vec![Undo::Unfence] }).unwrap();
        assert!(journal.undo_without_api_server().await.unwrap(), "what goes through the API is left to the API");
        journal.remove().unwrap();
        journal.remove().unwrap();
        assert!(!journal.undo_without_api_server().await.unwrap());
    }

    #[tokio::test]
    async fn the_fault_of_a_drill_that_still_runs_is_left_alone() {
        let state = tempfile::tempdir().unwrap();
        let journal = LocalJournal::new(state.path(), "c");
        let drill = DrillRecord { run: "r".into(), scenario: "s".into(), undo: Vec::new() };
        let of = |process| serde_json::to_vec(&LocalRecord { process, cluster: None, drill: drill.clone() }).unwrap();
        std::fs::create_dir_all(state.path().join("drills")).unwrap();
        let path = state.path().join("drills/running-c.json");
        // Process 1 is always there, and a number that the kernel gives to nobody never is.
        std::fs::write(&path, of(1)).unwrap();
        assert!(journal.undo_without_api_server().await.unwrap_err().to_string().contains("process 1"));
        std::fs::write(&path, of(0x7fff_fff0)).unwrap();
        assert!(journal.undo_without_api_server().await.unwrap());
    }

    #[tokio::test]
    async fn a_drill_runs_as_long_as_its_lock_is_held_whatever_its_process_number() {
        let state = tempfile::tempdir().unwrap();
        let (running, other) = (LocalJournal::new(state.path(), "c"), LocalJournal::new(state.path(), "c"));
        let drill = DrillRecord { run: "r".into(), scenario: "s".into(), undo: Vec::new() };
        running.write("u1", &drill).unwrap();
        running.clone().write("u1", &drill).unwrap();
        assert!(other.undo_without_api_server().await.unwrap_err().to_string().contains("is running the drill r"));
        assert!(other.write("u1", &drill).is_err());
        drop(running);
        assert!(other.undo_without_api_server().await.unwrap());
        assert!(!state.path().join("drills/running-c.part").exists());
    }

    #[test]
    fn a_record_of_another_cluster_is_put_aside() {
        let state = tempfile::tempdir().unwrap();
        let journal = LocalJournal::new(state.path(), "c");
        assert_eq!(journal.set_aside_if_of_another("u1").unwrap(), None);
        let drill = DrillRecord { run: "r".into(), scenario: "s".into(), undo: Vec::new() };
        journal.write("u1", &drill).unwrap();
        assert_eq!(journal.set_aside_if_of_another("u1").unwrap(), None);
        let aside = journal.set_aside_if_of_another("u2").unwrap().unwrap();
        assert!(aside.exists() && !journal.path().exists());
    }

    #[tokio::test]
    async fn a_record_that_is_no_record_is_an_error() {
        let state = tempfile::tempdir().unwrap();
        let journal = LocalJournal::new(state.path(), "c");
        std::fs::create_dir_all(state.path().join("drills")).unwrap();
        std::fs::write(state.path().join("drills/running-c.json"), "{").unwrap();
        assert!(journal.undo_without_api_server().await.unwrap_err().to_string().contains("running-c.json"));
    }

    #[test]
    fn a_record_of_8b80009_is_read_and_written_as_it_was() {
        let text = include_str!("../../../tests/compat/8b80009/running-stackctl.json");
        let record: LocalRecord = serde_json::from_str(text).unwrap();
        assert_eq!(record.drill.undo.len(), 12, "one of each kind");
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
    }

    #[test]
    fn the_file_is_where_8b80009_keeps_it() {
        let journal = LocalJournal::new(Path::new("/state"), "admin@kube/1");
        assert_eq!(journal.path, Path::new("/state/drills/running-admin-kube-1.json"));
    }
}
