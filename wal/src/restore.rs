//! `barman-cloud-wal-restore`: one WAL file from the store.
//!
//! It is complete at its destination or not there at all. Where a finished segment and an unfinished one are both
//! stored, the finished one is taken; barman goes by the order of their names.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Environment;
use crate::command::Command;
use crate::compression::Compression;
use crate::layout::{Kind, WalName};
use crate::segment;
use crate::stop::{Code, Result, Stop};
use crate::store::{LONGEST_IN_MEMORY, Remote, Variant};

/// A promotion waits for the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where barman's own program puts what it fetches ahead.
const SPOOL: &str = "/var/tmp/walrestore";
/// What the unfinished file is called. PostgreSQL removes files of this name from `pg_wal` when it starts, should this
/// program have been killed.
const UNFINISHED: &str = "xlogtemp.barman-cloud-wal";

/// Restores the file that the command names.
///
/// # Errors
/// With code 1 only if the store has said that there is none.
pub async fn restore(command: &Command, env: &Environment) -> Result<()> {
    let Some(name) = WalName::of_path(&command.wal) else {
        let message = format!("{} is an invalid name for a WAL file", command.wal);
        return Err(Stop::Failed { code: Code::Input, message });
    };
    if Path::new(SPOOL).join(name.as_str()).exists() {
        return Err(Stop::Handover(format!("{} is in {SPOOL}", name.as_str())));
    }
    let remote = Remote::open(command, env, PATIENCE)?;
    let variants = remote.variants(&name).await?;
    let Some(variant) = choose(&variants, &name, command.no_partial) else {
        let message = format!("WAL file {} for server {} does not exist", name.as_str(), command.server);
        return Err(Stop::Failed { code: Code::Operation, message });
    };
    if variant.size > LONGEST_IN_MEMORY || variant.compression == Some(Compression::Xz) {
        return Err(Stop::Handover(format!("{} has {} bytes or is in xz", variant.key, variant.size)));
    }
    let content = remote.fetch(&variant.key).await?;
    let is_segment = name.kind() == Kind::Segment && variant.name == name.as_str();
    write(&command.destination, |file| {
        let length = match variant.compression {
            None => file.write_all(&content).map(|()| content.len() as u64),
            Some(one) => one.decompress(&content, file),
        };
        let length = length.map_err(|error| format!("{} cannot be unwrapped: {error}", variant.key))?;
        if !is_segment {
            return Ok(());
        }
        let mut head = Vec::with_capacity(segment::HEADER);
        let read = file.rewind().and_then(|()| file.take(segment::HEADER as u64).read_to_end(&mut head));
        read.map_err(|error| format!("cannot read back what was written: {error}"))?;
        segment::check(&head, length).map_err(|reason| format!("{}: {reason}", variant.key))
    })
}

/// The stored form to restore.
fn choose<'a>(variants: &'a [Variant], name: &WalName, no_partial: bool) -> Option<&'a Variant> {
    // Barman restores no backup labels: recovery does not ask for them.
    if name.kind() == Kind::Backup {
        return None;
    }
    let finished = variants.iter().find(|variant| variant.name == name.as_str());
    match name.kind() {
        Kind::Partial if no_partial => None,
        Kind::Segment if !no_partial => finished.or_else(|| variants.first()),
        _ => finished,
    }
}

/// A file that is removed unless it was given its name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What cannot be removed is in nobody's way: see its name.
        let _ = fs::remove_file(&self.0);
    }
}

/// Has `fill` write a file beside `destination`, and gives it that name once it is on disk.
fn write(destination: &str, fill: impl FnOnce(&mut File) -> std::result::Result<(), String>) -> Result<()> {
    let destination = Path::new(destination);
    let path = destination.with_file_name(format!("{UNFINISHED}.{}", std::process::id()));
    let cannot = |error: std::io::Error| Stop::general(format!("cannot write {}: {error}", destination.display()));
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(cannot)?;
    let unfinished = Unfinished(path);
    fill(&mut file).map_err(Stop::general)?;
    file.sync_data().map_err(cannot)?;
    fs::rename(&unfinished.0, destination).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(names: &[&str]) -> Vec<Variant> {
        let variant = |name: &&str| {
            let (plain, compression) = crate::layout::unwrapped(name);
            Variant { key: (*name).to_owned(), name: plain.to_owned(), compression, size: 1 }
        };
        names.iter().map(variant).collect()
    }

    #[test]
    fn the_finished_segment_comes_before_the_unfinished_one() {
        const NAME: &str = "000000010000000000000001";
        let segment = WalName::of_path(NAME).unwrap();
        let partial = format!("{NAME}.partial");
        let choice = |names: &[&str], name: &WalName, no_partial| {
            let all = stored(names);
            choose(&all, name, no_partial).map(|variant| variant.key.clone())
        };
        let (zst, partial_gz) = (format!("{NAME}.zst"), format!("{NAME}.partial.gz"));
        assert_eq!(choice(&[&partial_gz, &zst], &segment, false), Some(zst.clone()));
        assert_eq!(choice(&[&partial_gz], &segment, false), Some(partial_gz.clone()));
        assert_eq!(choice(&[&partial_gz], &segment, true), None);
        assert_eq!(choice(&[], &segment, false), None);
        let asked = WalName::of_path(&partial).unwrap();
        assert_eq!(choice(&[&partial_gz], &asked, false), Some(partial_gz.clone()));
        assert_eq!(choice(&[&partial_gz], &asked, true), None);
        let label = WalName::of_path(&format!("{NAME}.00000028.backup")).unwrap();
        assert_eq!(choice(&[label.as_str()], &label, false), None);
    }

    #[test]
    fn a_file_is_whole_under_its_name_or_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("RECOVERYXLOG");
        let target = path.to_str().unwrap();
        let cut = write(target, |file| {
            file.write_all(b"half").unwrap();
            Err("it is cut".into())
        });
        assert_eq!(cut, Err(Stop::general("it is cut")));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        write(target, |file| file.write_all(b"whole").map_err(|error| error.to_string())).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
