//! Compiling the workspace's programs.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::run::Run;
use crate::say::say;
use crate::{target_folder, workspace};

/// Compiles a package of the workspace, as it is released or as tests use it, and returns where its program is.
///
/// # Errors
/// When it does not compile.
pub fn program(package: &str, release: bool) -> Result<PathBuf> {
    let (root, target) = (workspace(), target_folder());
    fs::create_dir_all(&target).with_context(|| format!("cannot make {}", target.display()))?;
    say(&format!("{package} ..."));
    Run::new("cargo", 1800)
        .dir(&root)
        .env("CARGO_TARGET_DIR", &target)
        .args(["build", "--locked", "--package", package])
        .args(release.then_some("--release"))
        .log(&target.join(format!("{package}-build.log")))
        .go()?;
    Ok(target.join(if release { "release" } else { "debug" }).join(package))
}
