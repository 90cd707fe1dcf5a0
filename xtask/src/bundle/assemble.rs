//! Puts what was made into a bundle's folder.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use super::manifest::{self, Component, Draft, ImageFile, Manifest};
use super::parts::{self, Base, IMAGES, KUBERNETES, MANIFESTS};
use super::{Airgap, docker, gobuild, images, node_image, preload, stack_images, web_image};
use crate::stackctl::Stackctl;

/// Fills the folder `out`, in the place of an earlier bundle.
///
/// # Errors
/// When something of it is not there, or `out` holds something else.
pub fn assemble(airgap: &Airgap, out: &Path, stackctl: &Stackctl) -> Result<()> {
    let Some(name) = out.file_name() else { bail!("{} is no folder's name", out.display()) };
    if out.exists() && !out.join(manifest::FILE).exists() && fs::read_dir(out)?.next().is_some() {
        bail!("{} is there and is no bundle: give another folder by --out", out.display());
    }
    let draft_name = format!(".{}.new", name.to_string_lossy());
    let mut draft = Draft::new(out.with_file_name(draft_name))?;
    let preload_path = format!("preload/{}", preload::file_name());
    let binaries = format!("kubernetes/{KUBERNETES}");
    let mut manifest = Manifest::new(KUBERNETES, preload_path.clone(), binaries.clone());

    draft.add("tools/minikube", &preload::program(airgap, "minikube", "minikube")?)?;
    for (part, file) in preload::BINARIES {
        draft.add(&format!("{binaries}/{file}"), &preload::program(airgap, part, file)?)?;
    }
    draft.add(&preload_path, &airgap.store.folder(preload::NAME, &preload::key(airgap)?).join(preload::file_name()))?;

    manifest.components.push(component(
        "minikube",
        go_version(airgap, "minikube")?,
        gobuild::source(airgap, "minikube")?,
    ));
    let node = airgap.store.folder(node_image::NAME, &node_image::key(airgap)?);
    let image = docker::noted(&node, "image")?;
    draft.add("images/kicbase.tar", &node.join(node_image::ARCHIVE))?;
    manifest.engine_images.push(ImageFile { path: "images/kicbase.tar".into(), image: image.clone() });
    manifest.components.push(Component {
        image: Some(image),
        ..component("kicbase", docker::noted(&node, "version")?, format!("Debian {}", parts::NODE_SUITE))
    });
    for image in IMAGES {
        let folder = airgap.store.folder(image.name, &images::key(airgap, image)?);
        let source = match image.version {
            parts::Version::Module(folder) => gobuild::source(airgap, folder)?,
            _ => match image.base {
                Base::Debian(suite) => format!("Debian {suite}"),
                Base::Scratch => "stackctl".to_owned(),
            },
        };
        let upstream = MANIFESTS.iter().find(|manifest| manifest.component == image.component);
        let path = upstream.map(|upstream| format!("manifests/{}", upstream.name));
        if let (Some(upstream), Some(path)) = (upstream, &path) {
            draft.add(path, &gobuild::sources(airgap, upstream.folder)?.join(upstream.path))?;
        }
        manifest.components.push(Component {
            image: Some(docker::noted(&folder, "image")?),
            manifest: path,
            ..component(image.component, docker::noted(&folder, "version")?, source)
        });
    }
    let archive = airgap.store.folder(stack_images::NAME, &stack_images::key(airgap)?).join(stack_images::ARCHIVE);
    let path = format!("images/{}", stack_images::ARCHIVE);
    draft.add(&path, &archive)?;
    for image in stack_images::all() {
        let folder = airgap.store.folder(image.name, &images::key(airgap, image)?);
        manifest.stack_images.push(ImageFile { path: path.clone(), image: docker::noted(&folder, "image")? });
    }
    let stackctl = stackctl.build()?;
    let mut add = |path: &str, part: &Path| -> Result<Option<ImageFile>> {
        draft.add(path, &part.join(web_image::ARCHIVE))?;
        Ok(Some(ImageFile { path: path.into(), image: docker::noted(part, "image")? }))
    };
    manifest.web_image = add("images/user-app.tar", &web_image::build(airgap, &stackctl)?)?;
    manifest.sidecar_image = add("images/backup-sidecar.tar", &web_image::build_sidecar(airgap, &stackctl)?)?;
    draft.finish(manifest, out)
}

fn component(name: &str, version: String, source: String) -> Component {
    Component { name: name.into(), version, image: None, manifest: None, source: Some(source) }
}

fn go_version(airgap: &Airgap, folder: &str) -> Result<String> {
    Ok(gobuild::module(airgap, folder)?.1.trim_start_matches('v').to_owned())
}
