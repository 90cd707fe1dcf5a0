//! Python's packages, pinned by hash, in folders of their own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::Airgap;
use super::digest::Inputs;
use super::store::Part;
use crate::run::Run;

const INSTALL_SECONDS: u64 = 600;

/// Installs what the part's requirements pin into its folder's `lib`, unless it is there; `add` makes the rest of it, and is
/// given the folder and the Python.
///
/// # Errors
/// When there is no Python with pip, a wheel is not the pinned one, or the rest cannot be made.
pub fn part(airgap: &Airgap, name: &str, add: impl Fn(&Path, &str) -> Result<()>) -> Result<PathBuf> {
    let requirements = airgap.sources.join(name).join("requirements.txt");
    let pins = fs::read(&requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let python =
        Run::new("python3", 30).args(["-c", "import sys; print(sys.executable, sys.version_info[:2])"]).output();
    let python = python.context("Python is needed (python3 in PATH, with pip)")?;
    let key = Inputs::default().add("pins", pins).add("python", &python).key();
    airgap.store.part(&Part { name, key: &key, holds: &|_| true }, |folder| {
        let program = python.split(' ').next().unwrap_or("python3");
        let options =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"];
        Run::new(program, INSTALL_SECONDS)
            .args(options)
            .args(["--only-binary=:all:", "--target"])
            .args([folder.join("lib"), "-r".into(), requirements])
            .log(&airgap.store.log(name))
            .go()?;
        add(folder, program)
    })
}
