//! Python environments with pinned packages, for the tools that are written in Python.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::bundle;
use crate::bundle::digest::Inputs;
use crate::run::Run;
use crate::say::say;

/// Makes an environment, once for what `requirements` pins with hashes, and returns its folder; pip goes where this machine's
/// settings send it.
///
/// # Errors
/// When there is no Python with `venv`, or pip fails.
pub fn environment(name: &str, requirements: &Path) -> Result<PathBuf> {
    let text = fs::read_to_string(requirements).with_context(|| format!("no {}", requirements.display()))?;
    let key = Inputs::default().add("requirements", &text).key();
    let environment = bundle::cache_folder()?.join(format!("{name}-{key}"));
    if !environment.join("done").is_file() {
        say(&format!("a Python environment with {name}, once"));
        let log = bundle::cache_folder()?.join(format!("{name}.log"));
        let made = Run::new("python3", 120).args(["-m", "venv", "--clear"]).args([&environment]).log(&log).go();
        made.context("this needs Python 3 with venv (Debian's package python3-venv)")?;
        Run::new(environment.join("bin/pip"), 600)
            .args(["install", "--require-hashes", "--only-binary=:all:", "-r"])
            .args([requirements])
            .log(&log)
            .go()?;
        fs::write(environment.join("done"), "").context("cannot mark the environment as done")?;
    }
    Ok(environment)
}
