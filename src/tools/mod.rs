//! The only door to other programs: everything here goes through [`runner`].

pub mod docker;
pub mod faults;
pub mod image;
pub mod minikube;
pub mod node;
pub mod profile;
pub mod registry;
pub mod runner;

use std::path::PathBuf;

/// The first executable file of that name in `PATH`.
pub fn find_in_path(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|file| file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0))
}
