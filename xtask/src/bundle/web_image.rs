//! The web image, built from the context that the `stackctl` program carries.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::digest::Inputs;
use super::store::Part;
use super::{Airgap, docker, rust_image};
use crate::run::Run;

/// The part's name.
pub const NAME: &str = "web-image";
/// The image in its folder.
pub const ARCHIVE: &str = "user-app.tar";

/// Builds the image that this `stackctl` wants, unless the engine has it.
///
/// # Errors
/// When the program cannot write its context or the build fails.
pub fn build(airgap: &Airgap, stackctl: &Path) -> Result<PathBuf> {
    let context = tempfile::tempdir_in(airgap.store.root()).context("cannot make a folder")?;
    let folder = context.path().display().to_string();
    let image = Run::new(stackctl, 60).args(["render", "--build-context", &folder]).output()?;
    let mut inputs = Inputs::default();
    inputs.add("image", &image).add("base", rust_image::key(airgap)?);
    let key = inputs.key();
    let part = Part { name: NAME, key: &key, holds: &|folder| docker::holds(folder, &image) };
    airgap.store.part(&part, |folder| {
        // The tag is a digest of the context: an image of that name is the one, also where `stackctl up` built it.
        let id = match docker::id(&image) {
            Some(id) => id,
            None => docker::build(context.path(), &[("RUST_IMAGE", rust_image::IMAGE)], &airgap.store.log(NAME))?,
        };
        docker::tag(&id, &image)?;
        docker::save(&[&image], &folder.join(ARCHIVE))?;
        let version = image.split(':').next_back().unwrap_or_default();
        docker::record(folder, &image, &id, version)
    })
}

/// Removes what an earlier context left in the engine: images that no part speaks of any more.
///
/// # Errors
/// When the store cannot be read.
pub fn forget_old(airgap: &Airgap) -> Result<()> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(airgap.store.root().join(NAME))? {
        let folder = entry?.path();
        if folder.is_dir() {
            kept.push(docker::noted(&folder, "image")?);
        }
    }
    let all =
        Run::new("docker", 60).args(["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "user-app"]).output()?;
    for image in all.lines().filter(|image| !kept.iter().any(|kept| kept == image)) {
        // One that a container still runs stays.
        let _ = Run::new("docker", 60).args(["image", "rm", image]).output();
    }
    Ok(())
}
