//! axe-core, which judges the web app's pages by the rules of WCAG, for their test in a browser. It is taken from a package of
//! Python's that brings it: pip is what the tests need anyway.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{Airgap, wheels};

/// The part's name.
pub const NAME: &str = "axe";

/// Makes the folder with `axe.min.js`.
///
/// # Errors
/// As [`wheels::part`], and when the package does not have it.
pub fn build(airgap: &Airgap) -> Result<PathBuf> {
    wheels::part(airgap, NAME, |folder, _| {
        let lib = folder.join("lib");
        fs::rename(lib.join("axe_playwright_python/axe.min.js"), folder.join("axe.min.js"))
            .context("the package has no axe.min.js")?;
        fs::remove_dir_all(lib).context("cannot remove the rest of the package")
    })
}
