//! The image of a minikube node: minikube's own recipe, read from its pinned module, on Debian.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::digest::Inputs;
use super::parts::{GO_TOOLS, GoTool, NODE_SUITE};
use super::store::Part;
use super::{Airgap, debian, docker, gobuild, images};
use crate::engine::runtime;

/// The part's name.
pub const NAME: &str = "node-image";
/// The image in its folder, for an engine that does not have it.
pub const ARCHIVE: &str = "kicbase.tar";
const FOLDER: &str = "node";
/// Where minikube's module keeps the node's recipe.
const UPSTREAM: &str = "deploy/kicbase";

fn crictl() -> Result<&'static GoTool> {
    GO_TOOLS.iter().find(|tool| tool.name == "crictl").context("no part crictl")
}

/// A digest of what the node image is made from.
///
/// # Errors
/// When something of it cannot be read.
pub fn key(airgap: &Airgap) -> Result<String> {
    let (_, minikube) = gobuild::module(airgap, "minikube")?;
    let mut inputs = Inputs::default();
    inputs
        .add("minikube", minikube)
        .add("base", debian::key(NODE_SUITE))
        .add("crictl", gobuild::key(airgap, crictl()?)?)
        .add("runtime", runtime::key())
        .add("lean", airgap.lean.to_string())
        .add_folder(&airgap.sources.join(FOLDER))?;
    Ok(inputs.key())
}

/// The image's name.
///
/// # Errors
/// As [`key`].
pub fn image(airgap: &Airgap) -> Result<String> {
    Ok(format!("stackctl.local/kicbase:{}", &key(airgap)?[..12]))
}

/// Builds the node image unless the engine has it.
///
/// # Errors
/// When minikube's sources cannot be had or the build fails.
pub fn build(airgap: &Airgap) -> Result<PathBuf> {
    let (key, image) = (key(airgap)?, image(airgap)?);
    let part = Part { name: NAME, key: &key, holds: &|folder| docker::holds(folder, &image) };
    airgap.store.part(&part, |folder| {
        let upstream = gobuild::sources(airgap, "minikube")?.join(UPSTREAM);
        let context = folder.join("context");
        images::copy_recipe(&airgap.sources.join(FOLDER), &context)?;
        images::copy_recipe(&upstream, &context.join("kicbase"))?;
        let tool = crictl()?;
        let crictl = airgap.store.folder(tool.name, &gobuild::key(airgap, tool)?).join("crictl");
        fs::copy(&crictl, context.join("crictl")).with_context(|| format!("no {}", crictl.display()))?;
        fs::copy(runtime::build(&airgap.store)?, context.join(runtime::NAME))?;
        writable(&context)?;
        let (_, minikube) = gobuild::module(airgap, "minikube")?;
        let base = debian::image(NODE_SUITE);
        let args = [("BASE", base.as_str()), ("LEAN", if airgap.lean { "1" } else { "0" }), ("MINIKUBE", &minikube)];
        let id = docker::build(&context, &args, &airgap.store.log(NAME))?;
        docker::tag(&id, &image)?;
        fs::remove_dir_all(&context)?;
        docker::save(&[&image], &folder.join(ARCHIVE))?;
        docker::record(folder, &image, &id, minikube.trim_start_matches('v'))
    })
}

/// Files of the module cache are read-only, and so are their copies, which get in the way later.
fn writable(folder: &Path) -> Result<()> {
    for path in super::digest::files(folder)? {
        let path = folder.join(path);
        let mut permissions = fs::metadata(&path)?.permissions();
        permissions.set_mode(permissions.mode() | 0o200);
        fs::set_permissions(&path, permissions)?;
    }
    Ok(())
}
