//! The certificates by which this machine trusts its package registries, for images that are built with
//! packages from there.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::Airgap;
use super::digest::Inputs;
use super::store::Part;

/// The part's name.
pub const NAME: &str = "certificates";
/// The file in its folder.
pub const FILE: &str = "ca-certificates.crt";
/// Where Debian keeps them.
const PATH: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The machine's own.
///
/// # Errors
/// When it has none.
pub fn read() -> Result<Vec<u8>> {
    fs::read(PATH).with_context(|| format!("cannot read {PATH}"))
}

/// A digest of them.
///
/// # Errors
/// As [`read`].
pub fn key() -> Result<String> {
    Ok(Inputs::default().add(FILE, read()?).key())
}

/// Copies them to where images are built from.
///
/// # Errors
/// When the machine has none, or the file system refuses.
pub fn build(airgap: &Airgap) -> Result<PathBuf> {
    let key = key()?;
    airgap.store.part(&Part { name: NAME, key: &key, holds: &|_| true }, |folder| {
        fs::write(folder.join(FILE), read()?).context("cannot keep the certificates")
    })
}
