//! Barman's own WAL programs, for the tests of ours: each has to read what the other wrote.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::Airgap;
use super::digest::Inputs;
use super::store::Part;
use crate::run::Run;

/// The part's name.
pub const NAME: &str = "barman";
const INSTALL_SECONDS: u64 = 600;
/// The programs and the modules that they are.
const PROGRAMS: [(&str, &str); 2] = [
    ("barman-cloud-wal-archive", "barman.clients.cloud_walarchive"),
    ("barman-cloud-wal-restore", "barman.clients.cloud_walrestore"),
];

/// Installs the pinned wheels into a folder of their own, unless they are there; `bin/` has the programs.
///
/// # Errors
/// When there is no Python with pip, or a wheel is not the pinned one.
pub fn build(airgap: &Airgap) -> Result<PathBuf> {
    let requirements = airgap.sources.join("barman/requirements.txt");
    let pins = fs::read(&requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let python =
        Run::new("python3", 30).args(["-c", "import sys; print(sys.executable, sys.version_info[:2])"]).output();
    let python = python.context("Python is needed (python3 in PATH, with pip)")?;
    let key = Inputs::default().add("pins", pins).add("python", &python).key();
    airgap.store.part(&Part { name: NAME, key: &key, holds: &|_| true }, |folder| {
        let program = python.split(' ').next().unwrap_or("python3");
        let options =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"];
        Run::new(program, INSTALL_SECONDS)
            .args(options)
            .args(["--only-binary=:all:", "--target"])
            .args([folder.join("lib"), "-r".into(), requirements])
            .log(&airgap.store.log(NAME))
            .go()?;
        let bin = folder.join("bin");
        fs::create_dir_all(&bin)?;
        PROGRAMS.iter().try_for_each(|(name, module)| write(&bin.join(name), program, module))
    })
}

/// A program that finds its modules from where it lies: the folder gets another name when it is complete.
fn write(path: &Path, python: &str, module: &str) -> Result<()> {
    let script = format!(
        "#!/bin/sh\nhere=$(dirname \"$(readlink -f \"$0\")\")\nPYTHONPATH=$here/../lib exec {python} -m {module} \"$@\"\n"
    );
    fs::write(path, script).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}
