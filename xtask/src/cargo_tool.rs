//! Programs that extend Cargo, built from their sources once and kept; pinned, as what they do is part of a check.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::bundle;
use crate::say::say;
use crate::tally::cargo;

/// The program of a pinned version, built where it was not yet.
///
/// # Errors
/// When it cannot be built.
pub fn program(name: &str, version: &str) -> Result<PathBuf> {
    let root = bundle::cache_folder()?.join("cargo-tools").join(format!("{name}-{version}"));
    let program = root.join("bin").join(name);
    if !program.is_file() {
        say(&format!("building {name}, once"));
        let root = root.display().to_string();
        // A target folder of its own, which Cargo removes when it is done.
        let code = cargo(&["install", "--locked", "--quiet", "--version", version, "--root", &root, name])
            .without_env("CARGO_TARGET_DIR")
            .on_terminal()?;
        if code != 0 {
            bail!("{name} cannot be installed");
        }
    }
    Ok(program)
}
