//! The program itself, as the developer tasks build and start it.

use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::Result;

use crate::run::Run;
use crate::say::say;
use crate::workspace;

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
    let log = root.join("target/stackctl-build.log");
    say("stackctl ...");
    Run::new("cargo", 1800)
        .dir(&root)
        .env("CARGO_TARGET_DIR", root.join("target"))
        .args(["build", "--locked", "--release", "--package", "stackctl"])
        .log(&log)
        .go()?;
    let path = root.join("target/release/stackctl");
    *built = Some(path.clone());
    Ok(path)
}
