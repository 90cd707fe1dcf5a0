//! The images of the stack in one archive, for a registry. minikube's own archive has them unpacked, without the layers that
//! a registry takes.

use std::path::PathBuf;

use anyhow::Result;

use super::digest::Inputs;
use super::parts::{IMAGES, Image};
use super::store::Part;
use super::{Airgap, docker, images};
use crate::run::Run;

/// The part's name.
pub const NAME: &str = "stack-images";
/// The archive in the part's folder.
pub const ARCHIVE: &str = "stack.tar.gz";
const RECIPE: &str = "1";
const COMPRESS_SECONDS: u64 = 900;

/// The components whose images run in a cluster that is there already; the others are minikube's and the cluster's own.
pub const COMPONENTS: [&str; 8] = [
    "cnpg-operator",
    "kube-state-metrics",
    "metrics-server",
    "plugin-barman-cloud",
    "plugin-barman-cloud-sidecar",
    "postgresql",
    "prometheus",
    "versitygw",
];

/// The images in the archive.
pub fn all() -> impl Iterator<Item = &'static Image> {
    IMAGES.iter().filter(|image| COMPONENTS.contains(&image.component))
}

/// A digest of what the archive is made from.
///
/// # Errors
/// When something of it cannot be read.
pub fn key(airgap: &Airgap) -> Result<String> {
    let mut inputs = Inputs::default();
    inputs.add("recipe", RECIPE).add("name", ARCHIVE);
    for image in all() {
        inputs.add(image.name, images::key(airgap, image)?);
    }
    Ok(inputs.key())
}

/// Makes the archive unless it is there. Layers that several images have are in it once.
///
/// # Errors
/// When the engine fails.
pub fn build(airgap: &Airgap) -> Result<PathBuf> {
    let key = key(airgap)?;
    airgap.store.part(&Part { name: NAME, key: &key, holds: &|_| true }, |folder| {
        let mut names = Vec::new();
        for image in all() {
            names.push(docker::noted(&airgap.store.folder(image.name, &images::key(airgap, image)?), "image")?);
        }
        let archive = folder.join(ARCHIVE.trim_end_matches(".gz"));
        docker::save(&names.iter().map(String::as_str).collect::<Vec<_>>(), &archive)?;
        // Without the time and the name: the same images give the same bytes.
        Run::new("gzip", COMPRESS_SECONDS).args(["--no-name", &archive.display().to_string()]).go()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_that_stackctl_pins_and_a_bundle_holds_is_in_the_archive() {
        let pinned = include_str!("../../../assets/components.toml");
        for image in IMAGES {
            let is_of_stack = pinned.contains(&format!("name = \"{}\"\n", image.component));
            assert_eq!(COMPONENTS.contains(&image.component), is_of_stack, "{}", image.component);
        }
        assert_eq!(all().count(), COMPONENTS.len());
    }
}
