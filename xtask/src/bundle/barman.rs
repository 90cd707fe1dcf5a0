//! Barman's own WAL programs, for the tests of ours: each has to read what the other wrote.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{Airgap, wheels};

/// The part's name.
pub const NAME: &str = "barman";
/// The programs and the modules that they are.
const PROGRAMS: [(&str, &str); 2] = [
    ("barman-cloud-wal-archive", "barman.clients.cloud_walarchive"),
    ("barman-cloud-wal-restore", "barman.clients.cloud_walrestore"),
];

/// Makes barman; `bin/` has the programs.
///
/// # Errors
/// As [`wheels::part`].
pub fn build(airgap: &Airgap) -> Result<PathBuf> {
    wheels::part(airgap, NAME, |folder, python| {
        let bin = folder.join("bin");
        fs::create_dir_all(&bin)?;
        PROGRAMS.iter().try_for_each(|(name, module)| write(&bin.join(name), python, module))
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
