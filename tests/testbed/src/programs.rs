//! What `cargo xtask bundle --only …` makes for tests.

use std::path::PathBuf;

/// The path of something made, below the folder of all that is; it names what makes it where it is missing.
///
/// # Panics
/// It is missing, which a test cannot do without.
pub fn made(path: &str, only: &str) -> PathBuf {
    let path = folder().join(path);
    assert!(
        path.is_file(),
        "{} is missing.\nMake it with: cargo xtask bundle --only {only}\nor name the folder that it is in by STACKCTL_TEST_BIN",
        path.display()
    );
    path
}

fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("STACKCTL_TEST_BIN") {
        return folder.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache"))).unwrap_or_default();
    let cache = cache.join("stackctl");
    let before = cache.join("closed/bin");
    if before.is_dir() { before } else { cache.join("airgap/bin") }
}
