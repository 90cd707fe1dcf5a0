//! The image that the web image is built on, from the toolchain that this machine has.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::digest::Inputs;
use super::parts::NODE_SUITE;
use super::store::Part;
use super::{Airgap, certificates, debian, docker, images};
use crate::run::Run;
use crate::workspace;

/// The part's name.
pub const NAME: &str = "rust-image";
/// The name by which the web image's Dockerfile asks for it.
pub const IMAGE: &str = "rust:1.95-slim-bookworm";
const FOLDER: &str = "rust";

/// A digest of what it is made from.
///
/// # Errors
/// When the machine has no Rust toolchain or no certificates.
pub fn key(airgap: &Airgap) -> Result<String> {
    let rustc = Run::new("rustc", 60).dir(&workspace()).args(["-vV"]).output()?;
    let mut inputs = Inputs::default();
    inputs.add("rustc", rustc).add("certificates", certificates::read()?).add("base", debian::key(NODE_SUITE));
    inputs.add_folder(&airgap.sources.join(FOLDER))?;
    Ok(inputs.key())
}

/// Builds it unless the engine has it.
///
/// # Errors
/// When the toolchain cannot be found or the build fails.
pub fn build(airgap: &Airgap) -> Result<PathBuf> {
    let key = key(airgap)?;
    let part = Part { name: NAME, key: &key, holds: &|folder| docker::holds(folder, IMAGE) };
    airgap.store.part(&part, |folder| {
        let sysroot = Run::new("rustc", 60).dir(&workspace()).args(["--print", "sysroot"]).output()?;
        let rustup = rustup()?;
        let context = folder.join("context");
        images::copy_recipe(&airgap.sources.join(FOLDER), &context)?;
        fs::copy(&rustup, context.join("rustup"))?;
        fs::write(context.join(certificates::FILE), certificates::read()?)?;
        let toolchain = context.join("toolchain");
        fs::create_dir(&toolchain)?;
        for half in ["bin", "lib"] {
            let from = Path::new(&sysroot).join(half);
            Run::new("cp", 300).args(["-a".as_ref(), from.as_path(), &toolchain]).go()?;
        }
        let version = Run::new("rustc", 60).dir(&workspace()).args(["--version"]).output()?;
        let number = version.split_whitespace().nth(1).context("rustc tells no version")?;
        let name = format!("{number}-x86_64-unknown-linux-gnu");
        let base = debian::image(NODE_SUITE);
        let args = [("BASE", base.as_str()), ("TOOLCHAIN", name.as_str())];
        let id = docker::build(&context, &args, &airgap.store.log(NAME))?;
        docker::tag(&id, IMAGE)?;
        fs::remove_dir_all(&context)?;
        docker::record(folder, IMAGE, &id, number)
    })
}

/// The rustup program behind the names of the toolchain's programs.
fn rustup() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("rustup")).find(|file| file.is_file());
    match found {
        Some(file) => Ok(fs::canonicalize(file)?),
        None => bail!("rustup is not in PATH: install Rust by rustup"),
    }
}
