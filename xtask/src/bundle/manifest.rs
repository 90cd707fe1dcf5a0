//! `bundle.json`, and the folder that it describes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::digest;

/// The layout that `stackctl` reads.
const SCHEMA: u32 = 1;
/// The manifest's name in the bundle.
pub const FILE: &str = "bundle.json";

/// What a bundle holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    schema: u32,
    platform: String,
    /// The Kubernetes version.
    pub kubernetes: String,
    /// True versions of what is in it.
    pub components: Vec<Component>,
    /// Every file but this one.
    pub files: Vec<Entry>,
    /// Images for the machine's own engine.
    pub engine_images: Vec<ImageFile>,
    /// Images of the stack, for a registry; several in one file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stack_images: Vec<ImageFile>,
    /// The web image, for the `stackctl` that wants exactly this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub web_image: Option<ImageFile>,
    /// The backup sidecar's image, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecar_image: Option<ImageFile>,
    /// minikube's archive of unpacked images.
    pub preload: String,
    /// The folder of kubelet, kubeadm and kubectl.
    pub kubernetes_binaries: String,
}

/// One part of the stack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Component {
    /// The component's name in `assets/components.toml`.
    pub name: String,
    /// The component's true version.
    pub version: String,
    /// The component's image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The manifest that installs it, a file of the bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// What it was built from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    path: String,
    sha256: String,
    /// In bytes.
    size: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    executable: bool,
}

/// An image in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageFile {
    /// The file.
    pub path: String,
    /// The image's name.
    pub image: String,
}

/// A bundle's folder while it is being filled.
#[derive(Debug)]
pub struct Draft {
    folder: PathBuf,
    entries: Vec<Entry>,
}

impl Draft {
    /// Starts with nothing.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn new(folder: PathBuf) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder, entries: Vec::new() })
    }

    /// Puts a file into the bundle: a link to it where the file system can, else a copy.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn add(&mut self, path: &str, from: &Path) -> Result<()> {
        let to = self.folder.join(path);
        fs::create_dir_all(to.parent().unwrap_or(&self.folder))?;
        if fs::hard_link(from, &to).is_err() {
            fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
        let metadata = to.metadata()?;
        self.entries.push(Entry {
            path: path.to_owned(),
            sha256: digest::remembered(from)?,
            size: metadata.len(),
            executable: metadata.permissions().mode() & 0o111 != 0,
        });
        Ok(())
    }

    /// Writes `bundle.json` and puts the folder in the place of an earlier one.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn finish(mut self, mut manifest: Manifest, to: &Path) -> Result<()> {
        self.entries.sort_by(|a, b| a.path.cmp(&b.path));
        manifest.files = self.entries;
        let mut text = serde_json::to_string_pretty(&manifest)?;
        text.push('\n');
        if fs::read_to_string(to.join(FILE)).is_ok_and(|there| there == text) {
            fs::remove_dir_all(&self.folder)?;
            return Ok(());
        }
        fs::write(self.folder.join(FILE), text).context("cannot write bundle.json")?;
        let old = to.with_extension("old");
        if old.exists() {
            fs::remove_dir_all(&old)?;
        }
        if to.exists() {
            fs::rename(to, &old).with_context(|| format!("cannot move {} away", to.display()))?;
        }
        fs::rename(&self.folder, to).with_context(|| format!("cannot make {}", to.display()))?;
        if old.exists() {
            fs::remove_dir_all(&old)?;
        }
        Ok(())
    }
}

impl Manifest {
    /// One that names no part yet.
    pub fn new(kubernetes: &str, preload: String, kubernetes_binaries: String) -> Self {
        Self {
            schema: SCHEMA,
            platform: "linux/amd64".into(),
            kubernetes: kubernetes.into(),
            components: Vec::new(),
            files: Vec::new(),
            engine_images: Vec::new(),
            stack_images: Vec::new(),
            web_image: None,
            sidecar_image: None,
            preload,
            kubernetes_binaries,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let mut manifest = Manifest::new("v1.2.3", "preload/p".into(), "kubernetes/v1.2.3".into());
        manifest.components.push(Component {
            name: "a".into(),
            version: "1".into(),
            image: Some("i:1".into()),
            manifest: None,
            source: None,
        });
        manifest
    }

    fn write(dir: &Path, contents: &str) -> PathBuf {
        let (from, to) = (dir.join("from"), dir.join("bundle"));
        fs::write(&from, contents).unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o755)).unwrap();
        let mut draft = Draft::new(dir.join("draft")).unwrap();
        draft.add("tools/b", &from).unwrap();
        draft.add("a", &from).unwrap();
        draft.finish(manifest(), &to).unwrap();
        to
    }

    #[test]
    fn the_manifest_lists_every_file_in_order_with_digest_size_and_right_to_run() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = write(dir.path(), "abc");
        let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(bundle.join(FILE)).unwrap()).unwrap();
        assert_eq!(json["schema"], 1);
        assert_eq!(json["platform"], "linux/amd64");
        assert_eq!(json["components"], serde_json::json!([{"name": "a", "version": "1", "image": "i:1"}]));
        assert_eq!(json["files"][0]["path"], "a");
        assert_eq!(
            json["files"][1],
            serde_json::json!({
                "path": "tools/b",
                "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                "size": 3,
                "executable": true,
            })
        );
        assert!(json.get("web_image").is_none());
        assert_eq!(fs::read_to_string(bundle.join("tools/b")).unwrap(), "abc");
    }

    #[test]
    fn a_new_bundle_takes_the_place_of_the_old_and_an_equal_one_leaves_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = write(dir.path(), "abc");
        let written = || bundle.join(FILE).metadata().unwrap().modified().unwrap();
        let first = written();
        write(dir.path(), "abc");
        assert_eq!(written(), first);
        fs::remove_file(dir.path().join("from")).unwrap();
        write(dir.path(), "abcd");
        assert_eq!(fs::read_to_string(bundle.join("a")).unwrap(), "abcd");
        assert!(!dir.path().join("bundle.old").exists() && !dir.path().join("draft").exists());
    }
}
