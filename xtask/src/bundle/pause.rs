//! The program that holds a pod's namespaces: ours, ten lines of C.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::Airgap;
use super::digest::Inputs;
use super::store::Part;
use crate::run::Run;

/// The part's name.
pub const NAME: &str = "pause";
const FLAGS: [&str; 4] = ["-Os", "-static", "-s", "-Wall"];

/// A digest of what it is made from.
///
/// # Errors
/// When its source cannot be read.
pub fn key(airgap: &Airgap) -> Result<String> {
    let source = airgap.sources.join("pause/pause.c");
    let text = fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
    Ok(Inputs::default().add("source", text).add("flags", FLAGS.join(" ")).key())
}

/// Compiles it unless it is there.
///
/// # Errors
/// When the compiler fails.
pub fn build(airgap: &Airgap) -> Result<PathBuf> {
    let key = key(airgap)?;
    airgap.store.part(&Part { name: NAME, key: &key, holds: &|_| true }, |folder| {
        Run::new("cc", 60)
            .args(FLAGS)
            .args([airgap.sources.join("pause/pause.c"), "-o".into(), folder.join("pause")])
            .log(&airgap.store.log(NAME))
            .go()
    })
}
