//! The program itself, as the developer tasks build and start it.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::{Context as _, Result};

use crate::run::Run;
use crate::say::say;
use crate::{target_folder, workspace};

/// How it is compiled, and what has been: once per run is enough.
#[derive(Debug)]
pub struct Stackctl {
    flags: &'static [&'static str],
    folder: &'static str,
    built: Mutex<Option<PathBuf>>,
}

/// As it is released.
pub static RELEASE: Stackctl = Stackctl { flags: &["--release"], folder: "release", built: Mutex::new(None) };
/// As tests use it: where those have been compiled, it is there.
pub static DEBUG: Stackctl = Stackctl { flags: &[], folder: "debug", built: Mutex::new(None) };

impl Stackctl {
    /// Builds it, once per run, and returns where it is.
    ///
    /// # Errors
    /// When it does not compile.
    pub fn build(&self) -> Result<PathBuf> {
        let mut built = self.built.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(path) = &*built {
            return Ok(path.clone());
        }
        let (root, target) = (workspace(), target_folder());
        fs::create_dir_all(&target).with_context(|| format!("cannot make {}", target.display()))?;
        say("stackctl ...");
        Run::new("cargo", 1800)
            .dir(&root)
            .env("CARGO_TARGET_DIR", &target)
            .args(["build", "--locked", "--package", "stackctl"])
            .args(self.flags)
            .log(&target.join("stackctl-build.log"))
            .go()?;
        let path = target.join(self.folder).join("stackctl");
        *built = Some(path.clone());
        Ok(path)
    }
}
