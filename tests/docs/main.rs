//! The pages of `docs/` that are made from something else are what that makes of them today.
//!
//! `cargo xtask docs` writes them: it runs these tests with `STACKCTL_DOCS=write`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod links;
mod measurements;
mod reference;

use std::{fs, path::PathBuf};

/// A file of the repository.
fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compares a page with what it should be, or writes it.
fn check(path: &str, wanted: &str) {
    let path = file(path);
    if std::env::var_os("STACKCTL_DOCS").is_some_and(|value| value == "write") {
        fs::write(&path, wanted).unwrap();
        return;
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(there == wanted, "{} is stale: cargo xtask docs makes it anew", path.display());
}
