//! The program itself, as the developer tasks build and start it.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::{Context as _, Result};

use crate::run::Run;
use crate::say::say;
use crate::{target_folder, workspace};

static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Builds `stackctl` as it is released, once per run, and returns where it is.
///
/// # Errors
/// When it does not compile.
pub fn build() -> Result<PathBuf> {
    let mut built = BUILT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(path) = &*built {
        return Ok(path.clone());
    }
    let root = workspace();
    let target = target_folder();
    fs::create_dir_all(&target).with_context(|| format!("cannot make {}", target.display()))?;
    let log = target.join("stackctl-build.log");
    say("stackctl ...");
    Run::new("cargo", 1800)
        .dir(&root)
        .env("CARGO_TARGET_DIR", &target)
        .args(["build", "--locked", "--release", "--package", "stackctl"])
        .log(&log)
        .go()?;
    let path = target.join("release/stackctl");
    *built = Some(path.clone());
    Ok(path)
}
