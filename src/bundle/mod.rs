//! A bundle: a folder with every tool, manifest and image, so that no network is needed.
//!
//! `bundle.json` at its root lists every file with its SHA-256; a file is checked before it is used, so
//! that a broken copy or a change by somebody else is noticed and named.

mod draft;
mod install;

pub use draft::BundleDraft;
pub(crate) use install::cannot_write;

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::Read,
    path::{Component as Part, Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Failure, Result, failed, missing};

/// The version of `bundle.json` that is read here.
pub const SCHEMA: u32 = 1;

/// How to get a bundle that works; the remedy of most errors here.
const MAKE_ONE: &str = "make it anew: cargo xtask bundle";

/// An opened bundle.
#[derive(Debug)]
pub struct Bundle {
    /// The bundle's folder.
    pub dir: PathBuf,
    index: Index,
    files: BTreeMap<String, ListedFile>,
    verified: Mutex<HashSet<String>>,
}

/// `bundle.json`. Unknown keys are left to newer writers of the same schema.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    schema: u32,
    platform: String,
    kubernetes: String,
    #[serde(default)]
    components: Vec<BundledComponent>,
    files: Vec<ListedFile>,
    #[serde(default)]
    engine_images: Vec<ImageFile>,
    #[serde(default)]
    stack_images: Vec<ImageFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    web_image: Option<ImageFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sidecar_image: Option<ImageFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kubernetes_binaries: Option<String>,
}

/// One part of the stack, in the version that the bundle really has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundledComponent {
    /// The component's name, as in `assets/components.toml`.
    pub name: String,
    /// The component's true version.
    #[serde(default)]
    pub version: String,
    /// The image to use, which the bundle has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The manifest's file in the bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// What it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// A file of the bundle.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ListedFile {
    path: String,
    sha256: String,
    size: u64,
}

/// An image in a file that `docker load` reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFile {
    /// The file in the bundle.
    pub path: String,
    /// The image's name and tag.
    pub image: String,
}

impl Bundle {
    /// Opens the bundle in `dir`; its files are checked when they are used.
    ///
    /// # Errors
    /// No `bundle.json`, one that is not valid, of another schema or platform, or with paths that leave
    /// the folder.
    pub fn open(dir: &Path) -> Result<Bundle> {
        let path = dir.join("bundle.json");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(missing(format!("no bundle in {}: it has no bundle.json", dir.display()))
                    .remedy("make one: cargo xtask bundle")
                    .into());
            }
            Err(error) => return Err(failed(format!("cannot read {}: {error}", path.display())).into()),
        };
        let broken = |what: String| failed(format!("the bundle {} is broken: {what}", dir.display())).remedy(MAKE_ONE);
        let index: Index =
            serde_json::from_str(&text).map_err(|error| broken(format!("bundle.json is not valid: {error}")))?;
        if index.schema != SCHEMA {
            return Err(failed(format!(
                "the bundle {} has schema {}, this stackctl reads schema {SCHEMA}",
                dir.display(),
                index.schema
            ))
            .remedy("use a bundle and a stackctl of the same release")
            .into());
        }
        if index.platform != platform() {
            return Err(missing(format!(
                "the bundle {} is for {}, this machine is {}",
                dir.display(),
                index.platform,
                platform()
            ))
            .remedy("make a bundle on a machine of this platform: cargo xtask bundle")
            .into());
        }
        let mut files = BTreeMap::new();
        for entry in &index.files {
            check_path(&entry.path).map_err(broken)?;
            if entry.sha256.len() != 64 || !entry.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(broken(format!("the sha256 of {} is not one: {:?}", entry.path, entry.sha256)).into());
            }
            if files.insert(entry.path.clone(), entry.clone()).is_some() {
                return Err(broken(format!("{} is listed twice", entry.path)).into());
            }
        }
        let bundle = Bundle { dir: dir.to_owned(), index, files, verified: Mutex::new(HashSet::new()) };
        for path in bundle.named_paths() {
            check_path(path).map_err(broken)?;
            if !bundle.files.contains_key(path) {
                return Err(broken(format!("it names {path}, which is not in its list of files")).into());
            }
        }
        Ok(bundle)
    }

    fn named_paths(&self) -> impl Iterator<Item = &str> {
        let index = &self.index;
        let manifests = index.components.iter().filter_map(|component| component.manifest.as_deref());
        let images = index.engine_images.iter().chain(&index.stack_images);
        let images = images.chain(&index.web_image).chain(&index.sidecar_image);
        let images = images.map(|image| image.path.as_str());
        manifests.chain(images).chain(index.preload.as_deref())
    }

    /// The Kubernetes version that it holds, e.g. `v1.35.4`.
    pub fn kubernetes(&self) -> &str {
        &self.index.kubernetes
    }

    /// The component of that name.
    pub fn component(&self, name: &str) -> Option<&BundledComponent> {
        self.index.components.iter().find(|component| component.name == name)
    }

    /// The image of the component of that name.
    ///
    /// # Errors
    /// The bundle has none.
    pub fn image(&self, name: &str) -> Result<&str> {
        self.component(name).and_then(|component| component.image.as_deref()).ok_or_else(|| {
            failed(format!("the bundle {} has no image of {name}", self.dir.display())).remedy(MAKE_ONE).into()
        })
    }

    /// Images that the host's engine needs.
    pub fn engine_images(&self) -> &[ImageFile] {
        &self.index.engine_images
    }

    /// The images of the stack that are upstream's, as a registry takes them: several may be in one file.
    ///
    /// # Errors
    /// A bundle that was made before there were any in bundles.
    pub fn stack_images(&self) -> Result<&[ImageFile]> {
        if self.index.stack_images.is_empty() {
            return Err(failed(format!(
                "the bundle {} holds its images for minikube's nodes only, not as a registry takes them",
                self.dir.display()
            ))
            .remedy(MAKE_ONE)
            .into());
        }
        Ok(&self.index.stack_images)
    }

    /// The same for nodes, which have them from their start if this very bundle made them; none in an older bundle.
    pub fn images_for_nodes(&self) -> &[ImageFile] {
        &self.index.stack_images
    }

    /// The images that are made from what stackctl carries: the web app's and the backup sidecar's.
    pub fn built_images(&self) -> impl Iterator<Item = &ImageFile> {
        self.index.web_image.iter().chain(&self.index.sidecar_image)
    }

    /// The image that was built for the build context whose image is called `image`, if the bundle has it.
    pub fn built_image(&self, image: &str) -> Option<&ImageFile> {
        self.built_images().find(|file| file.image == image)
    }

    /// Whether it has a preload: every image, ready for a node's volume.
    pub fn has_preload(&self) -> bool {
        self.index.preload.is_some()
    }

    /// The file's place on disk, after its SHA-256 was compared (once a process).
    ///
    /// # Errors
    /// A file that is not listed, not there, or not the one that was listed.
    pub fn verified(&self, path: &str) -> Result<PathBuf> {
        let entry = self.files.get(path).ok_or_else(|| self.broken(format!("it has no {path}")))?;
        let place = self.dir.join(path);
        if self.seen().contains(path) {
            return Ok(place);
        }
        // A link would lead out of the folder, and could be pointed elsewhere after the check.
        let meta = place.symlink_metadata().map_err(|error| self.broken(format!("{path}: {error}")))?;
        if !meta.is_file() {
            return Err(self.broken(format!("{path} is not a regular file")).into());
        }
        if meta.len() != entry.size {
            return Err(self.broken(format!("{path} has {} bytes, {} are expected", meta.len(), entry.size)).into());
        }
        let actual = sha256_file(&place)?;
        if actual != entry.sha256.to_ascii_lowercase() {
            return Err(self
                .broken(format!("{path} was changed: its sha256 is {actual}, {} is expected", entry.sha256))
                .into());
        }
        self.seen().insert(path.to_owned());
        Ok(place)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self, what: impl std::fmt::Display) -> Failure {
        failed(format!("the bundle {} is broken: {what}", self.dir.display())).remedy(MAKE_ONE)
    }
}

/// This machine, as a bundle names it, e.g. `linux/amd64`.
pub fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{arch}", std::env::consts::OS)
}

/// Relative, `/`-separated, without anything that leaves the folder.
fn check_path(path: &str) -> std::result::Result<(), String> {
    let inside = !path.is_empty()
        && !path.contains(['\\', '\0'])
        && Path::new(path).components().all(|part| matches!(part, Part::Normal(_)));
    if inside { Ok(()) } else { Err(format!("the path {path:?} leaves the bundle's folder")) }
}

/// The SHA-256 of a file, in lower-case hex.
///
/// # Errors
/// The file can't be read.
pub fn sha256_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 256 << 10];
    loop {
        let count = file.read(&mut chunk).with_context(|| format!("cannot read {}", path.display()))?;
        if count == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&chunk[..count]);
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        text
    })
}

#[cfg(test)]
mod tests;
