//! A bundle: a folder with every tool, manifest and image, so that no network is needed.

use std::path::{Path, PathBuf};

use crate::error::{Result, missing};

/// An opened bundle.
#[derive(Debug)]
pub struct Bundle {
    /// Its folder.
    pub dir: PathBuf,
}

impl Bundle {
    /// Opens the bundle in `dir`.
    ///
    /// # Errors
    /// No `bundle.json` there.
    pub fn open(dir: &Path) -> Result<Bundle> {
        let index = dir.join("bundle.json");
        if !index.is_file() {
            return Err(missing(format!("no bundle in {}: it has no bundle.json", dir.display())).into());
        }
        Ok(Bundle { dir: dir.to_owned() })
    }
}
