//! What makes two images the same, wherever they are kept.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use anyhow::Context as _;
use serde::Deserialize;

use crate::error::{Result, failed};

/// An image's content and how it starts.
///
/// An image's id is the digest of its configuration in one kind of image store and of its manifest in
/// another, so ids of the host's engine and of a node can't always be compared. This can: the layers'
/// uncompressed digests and the settings that a container is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    layers: Vec<String>,
    settings: Settings,
}

/// The settings of an image that change what runs. Absent and empty mean the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Settings {
    #[serde(deserialize_with = "or_default")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    user: String,
    #[serde(deserialize_with = "or_default")]
    working_dir: String,
}

fn or_default<'de, T: Default + Deserialize<'de>, D: serde::Deserializer<'de>>(
    from: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// The OCI image configuration: what a tar holds, and what crictl shows as `imageSpec`.
#[derive(Deserialize)]
struct Spec {
    #[serde(default, deserialize_with = "or_default")]
    config: Settings,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

impl From<Spec> for Identity {
    fn from(spec: Spec) -> Self {
        Identity { layers: spec.rootfs.diff_ids, settings: spec.config }
    }
}

impl Identity {
    /// From `docker image inspect NAME`.
    ///
    /// # Errors
    /// Not its output.
    pub fn of_docker_inspect(json: &str) -> Result<Identity> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Inspected {
            #[serde(default, deserialize_with = "or_default")]
            config: Settings,
            #[serde(rename = "RootFS")]
            root_fs: Layers,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Layers {
            #[serde(default)]
            layers: Vec<String>,
        }
        let mut images: Vec<Inspected> = serde_json::from_str(json).context("docker image inspect is not readable")?;
        let image = images.pop().context("docker image inspect shows no image")?;
        Ok(Identity { layers: image.root_fs.layers, settings: image.config })
    }

    /// From `crictl inspecti -o json NAME`.
    ///
    /// # Errors
    /// Not its output.
    pub fn of_crictl_inspect(json: &str) -> Result<Identity> {
        #[derive(Deserialize)]
        struct Inspected {
            info: Info,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Info {
            image_spec: Spec,
        }
        let image: Inspected = serde_json::from_str(json).context("crictl inspecti is not readable")?;
        Ok(image.info.image_spec.into())
    }

    /// From a file that `docker save` wrote (or one of the same layout), without unpacking it.
    ///
    /// # Errors
    /// No such image in it, or not such a file.
    pub fn of_saved_image(file: &Path, name: &str) -> Result<Identity> {
        Self::in_saved(file, name).with_context(|| format!("{} is not a saved image", file.display()))
    }

    fn in_saved(file: &Path, name: &str) -> Result<Identity> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Image {
            config: String,
            #[serde(default, deserialize_with = "or_default")]
            repo_tags: Vec<String>,
        }
        // The order in the file is not fixed: small files are kept, layers are passed over.
        let mut small: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut archive = tar::Archive::new(File::open(file)?);
        for entry in archive.entries()? {
            let mut entry = entry?;
            if entry.header().entry_type().is_file() && entry.size() <= 1 << 20 {
                let path = entry.path()?.to_string_lossy().into_owned();
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                small.insert(path, bytes);
            }
        }
        let manifest = small.get("manifest.json").context("it has no manifest.json")?;
        let images: Vec<Image> = serde_json::from_slice(manifest).context("its manifest.json is not readable")?;
        let image = images.iter().find(|image| image.repo_tags.iter().any(|tag| tag == name));
        let image = image.ok_or_else(|| failed(format!("it holds no image {name}")))?;
        let config = small.get(&image.config).with_context(|| format!("it has no {}", image.config))?;
        let spec: Spec = serde_json::from_slice(config).context("the image's configuration is not readable")?;
        Ok(spec.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: &str = r#"[{"Id": "sha256:aa", "Config": {"Env": ["PATH=/bin"], "Cmd": null,
        "Entrypoint": ["/app"], "User": "65532", "WorkingDir": "", "Labels": null},
        "RootFS": {"Type": "layers", "Layers": ["sha256:1", "sha256:2"]}}]"#;
    const CRICTL: &str = r#"{"status": {"id": "sha256:bb"}, "info": {"chainID": "sha256:c", "imageSpec":
        {"architecture": "amd64", "config": {"User": "65532", "Env": ["PATH=/bin"], "Entrypoint": ["/app"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:1", "sha256:2"]}}}}"#;

    #[test]
    fn the_same_image_is_the_same_in_the_engine_and_in_a_node() {
        let engine = Identity::of_docker_inspect(DOCKER).unwrap();
        assert_eq!(engine, Identity::of_crictl_inspect(CRICTL).unwrap());
        for (from, to) in [("sha256:2", "sha256:3"), ("/app", "/other"), ("65532", "0"), ("/bin", "/sbin")] {
            let stale = CRICTL.replace(from, to);
            assert_ne!(engine, Identity::of_crictl_inspect(&stale).unwrap(), "{from} → {to}");
        }
    }

    #[test]
    fn a_saved_image_is_read_without_unpacking() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.tar");
        let config = r#"{"config": {"Env": ["PATH=/bin"], "Entrypoint": ["/app"], "User": "65532"},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:1", "sha256:2"]}}"#;
        let manifest = r#"[{"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["l.tar"]}]"#;
        let mut tar = tar::Builder::new(File::create(&path).unwrap());
        for (name, text) in [("c.json", config), ("manifest.json", manifest)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        tar.finish().unwrap();
        let saved = Identity::of_saved_image(&path, "app:1").unwrap();
        assert_eq!(saved, Identity::of_docker_inspect(DOCKER).unwrap());
        assert!(format!("{:#}", Identity::of_saved_image(&path, "app:2").unwrap_err()).contains("no image app:2"));
    }
}
