//! The mark on this machine of a minikube profile that is being made.

use std::path::{Path, PathBuf};

use crate::{bundle::cannot_write, config::MinikubeTarget as Wanted, context::Context, error::Result};

/// The file that is there while a profile is made for the first time: what an interrupted run leaves is then known to be
/// ours and empty.
fn path(cx: &Context, wanted: &Wanted) -> PathBuf {
    path_in(&cx.config.folders.state, &wanted.profile)
}

fn path_in(state: &Path, profile: &str) -> PathBuf {
    state.join(format!("making-{profile}"))
}

/// Notes that the profile is being made.
///
/// # Errors
/// A file that cannot be written.
pub fn set(cx: &Context, wanted: &Wanted) -> Result<()> {
    write(&path(cx, wanted), "")
}

/// Whether an earlier run began to make the profile and did not end.
pub fn is_set(cx: &Context, wanted: &Wanted) -> bool {
    path(cx, wanted).exists()
}

/// Notes that the profile is complete.
pub fn clear(cx: &Context, wanted: &Wanted) {
    // A marker that stays is harmless: it counts only for a cluster that never answered.
    let _ = std::fs::remove_file(path(cx, wanted));
}

/// Writes a file and the folders above it.
///
/// # Errors
/// A folder or file that cannot be written.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
    std::fs::write(path, text).map_err(|error| cannot_write(path, &error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_that_8b80009_made_is_seen() {
        let state = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat/8b80009");
        assert!(path_in(&state, "stackctl").exists());
        assert!(!path_in(&state, "another").exists());
    }
}
