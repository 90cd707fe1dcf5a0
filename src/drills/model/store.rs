//! The drills that were run on this machine: a folder each, with the ledger and the report.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::report::{DrillReport, SCHEMA, VERSION, html, junit};
use crate::error::Result;

/// The ledger's file name.
const LEDGER: &str = "ledger";
/// The report's file name.
const REPORT: &str = "report.json";
/// The file name of the report's page for people.
pub const PAGE: &str = "report.html";

/// Where drills are kept on this machine.
#[derive(Debug, Clone)]
pub struct DrillStore {
    folder: PathBuf,
}

/// A run as the store knows it.
#[derive(Debug)]
pub enum Kept {
    /// It ended, and its report could be read.
    Done(Box<DrillReport>),
    /// It has a ledger and no report: it was interrupted.
    Interrupted(String),
    /// Its report can't be read by this version.
    Unreadable(String, String),
}

impl DrillStore {
    /// The store below the user's state folder.
    pub fn new(state: &Path) -> DrillStore {
        DrillStore { folder: state.join("drills") }
    }

    /// Where everything is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the folder of a run; the path is that of its ledger.
    ///
    /// # Errors
    /// A folder that can't be made.
    pub fn begin(&self, run: &str) -> Result<PathBuf> {
        let folder = self.folder.join(run);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder.join(LEDGER))
    }

    /// Keeps the report of a run, for programs and for people.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn keep(&self, run: &str, report: &DrillReport) -> Result<()> {
        let folder = self.folder.join(run);
        write(&folder.join(PAGE), html(report).as_bytes())?;
        write(&folder.join(REPORT), &serde_json::to_vec_pretty(report)?)
    }

    /// Every run, the oldest first: names begin with the time.
    ///
    /// # Errors
    /// A folder that can't be listed; that there is none is not one.
    pub fn list(&self) -> Result<Vec<Kept>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("cannot list {}", self.folder.display())),
        };
        let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|p| p.is_dir()).collect();
        folders.sort();
        Ok(folders.iter().filter_map(|folder| kept(folder)).collect())
    }
}

fn kept(folder: &Path) -> Option<Kept> {
    let name = folder.file_name()?.to_string_lossy().into_owned();
    match std::fs::read(folder.join(REPORT)) {
        Ok(bytes) => Some(match read(&bytes) {
            Ok(report) => Kept::Done(Box::new(report)),
            Err(error) => Kept::Unreadable(name, format!("{error:#}")),
        }),
        Err(_) if folder.join(LEDGER).exists() => Some(Kept::Interrupted(name)),
        Err(_) => None,
    }
}

fn read(bytes: &[u8]) -> Result<DrillReport> {
    let value: serde_json::Value = serde_json::from_slice(bytes)?;
    let (schema, version) = (&value["schema"], &value["version"]);
    if schema != SCHEMA || version != VERSION {
        anyhow::bail!("its schema is {schema} version {version}; this program reads \"{SCHEMA}\" version {VERSION}");
    }
    Ok(serde_json::from_value(value)?)
}

/// Writes `drill.json`, `drill.xml` (JUnit) and `drill.html` into a folder, made if it is not there; returns
/// the page's path.
///
/// # Errors
/// A file that can't be written.
pub fn publish(folder: &Path, report: &DrillReport) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    write(&folder.join("drill.json"), &serde_json::to_vec_pretty(report)?)?;
    write(&folder.join("drill.xml"), junit(report).as_bytes())?;
    let page = folder.join("drill.html");
    write(&page, html(report).as_bytes())?;
    Ok(page)
}

/// Writes beside the file and renames: no reader sees half a report.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = path.with_extension("part");
    std::fs::write(&beside, bytes)
        .and_then(|()| std::fs::rename(&beside, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_8b80009_is_read_and_written_as_it_was() {
        let text = include_str!("../../../tests/compat/8b80009/report.json");
        let folder = tempfile::tempdir().unwrap();
        let store = DrillStore::new(folder.path());
        let ledger = store.begin("20261128-061500-control").unwrap();
        assert_eq!(ledger, folder.path().join("drills/20261128-061500-control/ledger"));
        std::fs::write(ledger.with_file_name("report.json"), text).unwrap();
        let kept = store.list().unwrap();
        let [Kept::Done(report)] = kept.as_slice() else { panic!("{kept:?}") };
        assert_eq!(report.runs[0].verdict.anomalies.len(), 8, "one finding of each kind");
        assert_eq!(serde_json::to_string_pretty(report).unwrap(), text);
    }
}
