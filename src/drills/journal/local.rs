//! The record on this machine: a file that names what is to be undone without the API server, which may be what is
//! down, and the process that runs the drill.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::DrillRecord;
use crate::{
    drills::undo::{undo_latest_first, undo_without_api_server},
    error::{Result, failed},
};

/// The place of the record on this machine; one a cluster.
#[derive(Debug, Clone)]
pub struct LocalJournal {
    path: PathBuf,
}

/// The content of the file. Another version may have written it: names and fields stay as they are.
#[derive(Debug, Serialize, Deserialize)]
struct LocalRecord {
    /// The process that runs the drill.
    process: u32,
    #[serde(flatten)]
    drill: DrillRecord,
}

impl LocalJournal {
    /// The place of the record for the cluster with this context, below the user's state folder.
    pub fn new(state: &Path, context: &str) -> LocalJournal {
        // A context's name may hold what a file's may not.
        let name: String = context.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        LocalJournal { path: state.join("drills").join(format!("running-{name}.json")) }
    }

    /// Writes the record to the disk, before the fault.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn write(&self, drill: &DrillRecord) -> Result<()> {
        let cannot = || format!("cannot write {}", self.path.display());
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).with_context(cannot)?;
        }
        let file = std::fs::File::create(&self.path).with_context(cannot)?;
        let record = LocalRecord { process: std::process::id(), drill: drill.clone() };
        serde_json::to_writer(&file, &record).with_context(cannot)?;
        file.sync_all().with_context(cannot)
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
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.path.display())),
        };
        let LocalRecord { process, drill } = serde_json::from_slice(&text).map_err(|error| {
            failed(format!("{} can't be read: {error}", self.path.display()))
                .remedy("look into it for what the drill did, undo that by hand, and delete it")
        })?;
        if process != std::process::id() && is_alive(process) {
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
    use crate::drills::undo::Undo;

    #[tokio::test]
    async fn a_record_is_written_found_and_removed() {
        let state = tempfile::tempdir().unwrap();
        let journal = LocalJournal::new(state.path(), "admin@kube/1");
        assert!(!journal.undo_without_api_server().await.unwrap());
        journal.write(&DrillRecord { run: "r".into(), scenario: "s".into(), undo: vec![Undo::Unfence] }).unwrap();
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
        let of = |process| serde_json::to_vec(&LocalRecord { process, drill: drill.clone() }).unwrap();
        std::fs::create_dir_all(state.path().join("drills")).unwrap();
        let path = state.path().join("drills/running-c.json");
        // Process 1 is always there, and a number that the kernel gives to nobody never is.
        std::fs::write(&path, of(1)).unwrap();
        assert!(journal.undo_without_api_server().await.unwrap_err().to_string().contains("process 1"));
        std::fs::write(&path, of(0x7fff_fff0)).unwrap();
        assert!(journal.undo_without_api_server().await.unwrap());
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
