//! What has been made, kept by content: `<part>/<key>/`, where the key is a digest of everything
//! that the part is made from. A folder with that name is complete: it gets the name last.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::say::say;

/// Earlier versions of a part that are kept, for going back and forth between two branches.
const KEPT: usize = 1;

/// The folder of everything made.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    _lock: File,
}

/// One part in the store: its name, its key, how to tell that what is there still holds.
pub struct Part<'a> {
    /// The folder's name.
    pub name: &'a str,
    /// A digest of what it is made from.
    pub key: &'a str,
    /// Whether what the folder speaks of (an image in the engine) is still there.
    pub holds: &'a dyn Fn(&Path) -> bool,
}

impl Store {
    /// Opens the store; waits while another process works in it.
    ///
    /// # Errors
    /// When its folder cannot be made or locked.
    pub fn open(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
        let lock = File::create(root.join(".lock")).context("cannot make the lock file")?;
        if lock.try_lock().is_err() {
            say("another run is at work here: waiting for it");
            lock.lock().context("cannot take the lock")?;
        }
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a part is when it has been made.
    pub fn folder(&self, name: &str, key: &str) -> PathBuf {
        self.root.join(name).join(key)
    }

    /// The log of the last making of a part.
    pub fn log(&self, name: &str) -> PathBuf {
        self.root.join(name).join("log")
    }

    /// Makes a part unless it is there: `make` fills the folder that it is given.
    ///
    /// # Errors
    /// What `make` returns; or when the file system refuses.
    pub fn part(&self, part: &Part<'_>, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let Part { name, key, holds } = *part;
        let done = self.folder(name, key);
        if done.is_dir() && holds(&done) {
            return Ok(done);
        }
        let start = Instant::now();
        say(&format!("{name} ..."));
        let partial = self.root.join(name).join("partial");
        for folder in [&done, &partial] {
            if folder.exists() {
                fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
            }
        }
        fs::create_dir_all(&partial)?;
        let _ = fs::remove_file(self.log(name));
        make(&partial)?;
        fs::rename(&partial, &done).context("cannot name what was made")?;
        self.forget_old(name, key)?;
        say(&format!("{name} made in {:.0?}", start.elapsed()));
        Ok(done)
    }

    fn forget_old(&self, name: &str, key: &str) -> Result<()> {
        let mut old = Vec::new();
        for entry in fs::read_dir(self.root.join(name))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && entry.file_name() != key {
                old.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        old.sort();
        for (_, folder) in old.iter().rev().skip(KEPT) {
            fs::remove_dir_all(folder)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    fn always(_: &Path) -> bool {
        true
    }

    fn part<'a>(key: &'a str, holds: &'a dyn Fn(&Path) -> bool) -> Part<'a> {
        Part { name: "p", key, holds }
    }

    #[test]
    fn a_part_is_made_once_per_key_and_again_when_it_no_longer_holds() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut made = 0;
        let mut get = |key, holds: &dyn Fn(&Path) -> bool| {
            store
                .part(&part(key, holds), |folder| {
                    made += 1;
                    Ok(fs::write(folder.join("n"), made.to_string())?)
                })
                .map(|folder| fs::read_to_string(folder.join("n")).unwrap())
                .unwrap()
        };
        assert_eq!(get("k1", &always), "1");
        assert_eq!(get("k1", &always), "1");
        assert_eq!(get("k2", &always), "2");
        assert_eq!(get("k1", &always), "1", "the one before is kept");
        assert_eq!(get("k1", &|_| false), "3");
    }

    #[test]
    fn what_failed_half_way_is_not_taken_for_done() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let failed = store.part(&part("k", &always), |folder| {
            fs::write(folder.join("half"), "")?;
            bail!("power cut")
        });
        assert!(failed.is_err());
        assert!(!store.folder("p", "k").exists());
        let folder = store.part(&part("k", &always), |_| Ok(())).unwrap();
        assert!(!folder.join("half").exists(), "it starts from nothing");
    }

    #[test]
    fn only_the_newest_and_the_one_before_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for key in ["k1", "k2", "k3"] {
            store.part(&part(key, &always), |_| Ok(())).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let left = ["k1", "k2", "k3"].map(|key| store.folder("p", key).exists());
        assert_eq!(left, [false, true, true]);
    }
}
