//! The third-party parts, pinned in `assets/components.toml`.

use anyhow::Context as _;
use serde::Deserialize;

use crate::error::Result;

/// Every third-party part.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Components {
    /// The Kubernetes version of clusters that stackctl makes.
    pub kubernetes: Kubernetes,
    /// The parts.
    #[serde(rename = "component")]
    pub components: Vec<Component>,
}

/// The Kubernetes of clusters that stackctl makes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    /// With the leading `v`.
    pub version: String,
}

/// A third-party part.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// The component's name; also the placeholder in `image:` fields of our manifests.
    pub name: String,
    /// The version, as upstream writes it.
    pub version: String,
    /// The container image, by name and tag.
    pub image: Option<String>,
    /// The digest of the image's index for all platforms, `sha256:…`.
    pub digest: Option<String>,
    /// Upstream's own release manifest.
    pub manifest: Option<Manifest>,
    /// Downloads by platform, e.g. `linux/amd64`.
    #[serde(default)]
    pub download: Vec<Download>,
}

/// A file that is fetched once, verified and cached.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Where it is.
    pub url: String,
    /// What it must hash to, in hex.
    pub sha256: String,
}

/// An executable for one platform.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// E.g. `linux/amd64`.
    pub platform: String,
    /// Where it is.
    pub url: String,
    /// What it must hash to, in hex.
    pub sha256: String,
}

/// Reads `assets/components.toml`.
///
/// # Errors
/// Only if the embedded file is broken, which a unit test rules out.
pub fn components() -> Result<Components> {
    let text = super::file("components.toml").context("components.toml is not embedded")?;
    toml::from_str(text).context("components.toml is not valid")
}

impl Component {
    /// The image as it is pulled, `NAME:TAG@DIGEST`: the tag is for people, the digest decides.
    pub fn pinned_image(&self) -> Option<String> {
        let image = self.image.as_deref()?;
        Some(self.digest.as_ref().map_or_else(|| image.to_owned(), |digest| format!("{image}@{digest}")))
    }
}

impl Components {
    /// A part by its name.
    pub fn get(&self, name: &str) -> Option<&Component> {
        self.components.iter().find(|component| component.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ImageMirror;

    #[test]
    fn every_component_is_pinned() {
        let all = components().unwrap();
        for name in [
            "cnpg-operator",
            "plugin-barman-cloud",
            "plugin-barman-cloud-sidecar",
            "versitygw",
            "postgresql",
            "metrics-server",
            "prometheus",
            "kube-state-metrics",
            "grafana",
        ] {
            let component = all.get(name).unwrap_or_else(|| panic!("{name} is missing"));
            let image = component.pinned_image().unwrap();
            let (tag, digest) = image.split_once("@sha256:").unwrap_or_else(|| panic!("{image} has no digest"));
            assert!(tag.contains(':') && !tag.ends_with(":latest"), "{image} is not pinned");
            assert!(digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()), "{image}");
        }
        for component in &all.components {
            let hashes =
                component.manifest.iter().map(|m| &m.sha256).chain(component.download.iter().map(|d| &d.sha256));
            for sha256 in hashes {
                assert!(sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit()), "{sha256}");
            }
        }
    }

    #[test]
    fn no_two_images_of_the_stack_come_to_the_same_name() {
        let all = components().unwrap();
        let images: Vec<String> = all.components.into_iter().filter_map(|one| one.image).collect();
        let mut places: Vec<String> = images.iter().map(|image| ImageMirror::at("r").place(image)).collect();
        places.sort();
        places.dedup();
        assert_eq!(places.len(), images.len(), "{places:?}");
    }
}
