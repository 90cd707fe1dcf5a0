//! The images that are built from the contexts that the `stackctl` program carries: the web app's and the backup sidecar's.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::digest::Inputs;
use super::parts::SIDECAR;
use super::store::Part;
use super::{Airgap, docker, images, rust_image};
use crate::run::Run;

/// The part's name.
pub const NAME: &str = "web-image";
/// The part's name of the sidecar's image.
pub const SIDECAR_NAME: &str = "wal-sidecar-image";
/// The image in its part's folder.
pub const ARCHIVE: &str = "image.tar";

/// Builds the web image that this `stackctl` wants, unless the engine has it.
///
/// # Errors
/// When the program cannot write its context or the build fails.
pub fn build(airgap: &Airgap, stackctl: &Path) -> Result<PathBuf> {
    build_part(airgap, stackctl, NAME, "--build-context", None)
}

/// Builds the sidecar's image that this `stackctl` wants, on top of the bundle's own image of the plugin's.
///
/// # Errors
/// As [`build`].
pub fn build_sidecar(airgap: &Airgap, stackctl: &Path) -> Result<PathBuf> {
    let base = airgap.store.folder(SIDECAR.name, &images::key(airgap, &SIDECAR)?);
    let base = docker::noted(&base, "image")?;
    build_part(airgap, stackctl, SIDECAR_NAME, "--sidecar-context", Some(&base))
}

fn build_part(airgap: &Airgap, stackctl: &Path, name: &str, option: &str, base: Option<&str>) -> Result<PathBuf> {
    let context = tempfile::tempdir_in(airgap.store.root()).context("cannot make a folder")?;
    let folder = context.path().display().to_string();
    let image = Run::new(stackctl, 60).args(["render", option, &folder]).args(base).output()?;
    let mut inputs = Inputs::default();
    inputs.add("image", &image).add("archive", ARCHIVE).add("base", rust_image::key(airgap)?);
    let key = inputs.key();
    let part = Part { name, key: &key, holds: &|folder| docker::holds(folder, &image) };
    airgap.store.part(&part, |folder| {
        // The tag is a digest of the context: an image of that name is the one, also where `stackctl up` built it.
        let id = match docker::id(&image) {
            Some(id) => id,
            None => docker::build(context.path(), &[("RUST_IMAGE", rust_image::IMAGE)], &airgap.store.log(name))?,
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
    for (part, repository) in [(NAME, "user-app"), (SIDECAR_NAME, "plugin-barman-cloud-sidecar-wal")] {
        let mut kept = Vec::new();
        for entry in fs::read_dir(airgap.store.root().join(part))? {
            let folder = entry?.path();
            if folder.is_dir() {
                kept.push(docker::noted(&folder, "image")?);
            }
        }
        let list = ["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository];
        let all = Run::new("docker", 60).args(list).output()?;
        for image in all.lines().filter(|image| !kept.iter().any(|kept| kept == image)) {
            // One that a container still runs stays.
            let _ = Run::new("docker", 60).args(["image", "rm", image]).output();
        }
    }
    Ok(())
}
