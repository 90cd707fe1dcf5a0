//! The record on this machine, beside the one in the cluster: of faults past the API server, which may be what is
//! down, and of who runs the drill.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::cluster::Running;
use crate::{
    drills::undo,
    error::{Result, failed},
};

/// Where the records of this machine are; one a cluster.
#[derive(Debug, Clone)]
pub struct Machine {
    path: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// Whose drill it is.
    process: u32,
    #[serde(flatten)]
    running: Running,
}

impl Machine {
    /// The record of the cluster with this context, below the user's state folder.
    pub fn new(state: &Path, context: &str) -> Machine {
        // A context's name may hold what a file's may not.
        let name: String = context.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        Machine { path: state.join("drills").join(format!("running-{name}.json")) }
    }

    /// Writes the record to the disk, before the fault.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn write(&self, running: &Running) -> Result<()> {
        let cannot = || format!("cannot write {}", self.path.display());
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).with_context(cannot)?;
        }
        let file = std::fs::File::create(&self.path).with_context(cannot)?;
        let record = Record { process: std::process::id(), running: running.clone() };
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

    /// Undoes what needs no API server. The record stays until the rest is undone, too. Whether there was one.
    ///
    /// # Errors
    /// A drill that is still running; a record that can't be read; what can't be undone.
    pub async fn undo(&self) -> Result<bool> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.path.display())),
        };
        let Record { process, running } = serde_json::from_slice(&text).map_err(|error| {
            failed(format!("{} can't be read: {error}", self.path.display()))
                .remedy("look into it for what the drill did, undo that by hand, and delete it")
        })?;
        if process != std::process::id() && is_alive(process) {
            return Err(failed(format!("process {process} on this machine is running the drill {}", running.run))
                .remedy("wait for its end")
                .into());
        }
        for change in running.undo.iter().rev() {
            undo::past_the_api(change).await.with_context(|| format!("the drill {} can't be undone", running.run))?;
        }
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
        let machine = Machine::new(state.path(), "admin@kube/1");
        assert!(!machine.undo().await.unwrap());
        machine.write(&Running { run: "r".into(), scenario: "s".into(), undo: vec![undo::Undo::Unfence] }).unwrap();
        assert!(machine.undo().await.unwrap(), "what goes through the API is left to the API");
        machine.remove().unwrap();
        machine.remove().unwrap();
        assert!(!machine.undo().await.unwrap());
    }

    #[tokio::test]
    async fn the_fault_of_a_drill_that_still_runs_is_left_alone() {
        let state = tempfile::tempdir().unwrap();
        let machine = Machine::new(state.path(), "c");
        let running = Running { run: "r".into(), scenario: "s".into(), undo: Vec::new() };
        let of = |process| serde_json::to_vec(&Record { process, running: running.clone() }).unwrap();
        std::fs::create_dir_all(state.path().join("drills")).unwrap();
        let path = state.path().join("drills/running-c.json");
        // Process 1 is always there, and a number that the kernel gives to nobody never is.
        std::fs::write(&path, of(1)).unwrap();
        assert!(machine.undo().await.unwrap_err().to_string().contains("process 1"));
        std::fs::write(&path, of(0x7fff_fff0)).unwrap();
        assert!(machine.undo().await.unwrap());
    }

    #[tokio::test]
    async fn a_record_that_is_no_record_is_an_error() {
        let state = tempfile::tempdir().unwrap();
        let machine = Machine::new(state.path(), "c");
        std::fs::create_dir_all(state.path().join("drills")).unwrap();
        std::fs::write(state.path().join("drills/running-c.json"), "{").unwrap();
        assert!(machine.undo().await.unwrap_err().to_string().contains("running-c.json"));
    }
}
