//! Compiling the workspace's programs.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::run::Run;
use crate::say::say;
use crate::{target_folder, workspace};

/// How a program is compiled: a profile of the workspace's Cargo.toml.
#[derive(Debug, Clone, Copy)]
pub enum Profile {
    /// As tests use it.
    Dev,
    /// For speed: the web app.
    Release,
    /// For size: stackctl as it is released.
    Dist,
}

impl Profile {
    /// Its name for Cargo, and that of the folder in the target folder.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Dev => ("dev", "debug"),
            Self::Release => ("release", "release"),
            Self::Dist => ("dist", "dist"),
        }
    }
}

/// Compiles a package of the workspace and returns where its program is.
///
/// # Errors
/// When it does not compile.
pub fn program(package: &str, profile: Profile) -> Result<PathBuf> {
    let (root, target) = (workspace(), target_folder());
    fs::create_dir_all(&target).with_context(|| format!("cannot make {}", target.display()))?;
    say(&format!("{package} ..."));
    let (profile, folder) = profile.names();
    Run::new("cargo", 1800)
        .dir(&root)
        .env("CARGO_TARGET_DIR", &target)
        .args(["build", "--locked", "--package", package, "--profile", profile])
        .log(&target.join(format!("{package}-build.log")))
        .go()?;
    Ok(target.join(folder).join(package))
}
