//! The engine, as the builder uses it: images built from a folder, and what is noted about them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::run::Run;

const BUILD_SECONDS: u64 = 1500;
const SAVE_SECONDS: u64 = 600;

/// Builds an image from a folder with a Dockerfile and returns its id.
///
/// # Errors
/// When the build fails, with the end of its output.
pub fn build(folder: &Path, args: &[(&str, &str)], log: &Path) -> Result<String> {
    let id = folder.join(".image-id");
    let mut run = Run::new("docker", BUILD_SECONDS)
        // The engine of a bare Debian machine has no BuildKit front end.
        .env("DOCKER_BUILDKIT", "0")
        .args(["build", "--network", "host", "--force-rm", "--iidfile", &id.display().to_string()]);
    for (name, value) in args {
        run = run.args(["--build-arg", &format!("{name}={value}")]);
    }
    run.args(["."]).dir(folder).log(log).go()?;
    Ok(fs::read_to_string(&id).context("the engine has not named the image")?.trim().to_owned())
}

/// The id of an image, if it is there.
pub fn id(image: &str) -> Option<String> {
    Run::new("docker", 30).args(["image", "inspect", "-f", "{{.Id}}", image]).output().ok()
}

/// Names an image.
///
/// # Errors
/// When the engine refuses.
pub fn tag(id: &str, image: &str) -> Result<()> {
    Run::new("docker", 30).args(["tag", id, image]).output().map(drop)
}

/// What a program in an image prints.
///
/// # Errors
/// When it fails.
pub fn prints(image: &str, program: &[&str]) -> Result<String> {
    let mut args = vec!["run", "--rm", "--network", "none", "--entrypoint", program[0], image];
    args.extend(&program[1..]);
    Run::new("docker", 60).args(args).output()
}

/// Writes images to a file.
///
/// # Errors
/// When the engine refuses.
pub fn save(images: &[&str], file: &Path) -> Result<()> {
    Run::new("docker", SAVE_SECONDS).args(["save", "-o", &file.display().to_string()]).args(images).output().map(drop)
}

/// Notes in a part's folder which image it stands for.
///
/// # Errors
/// When the file system refuses.
pub fn record(folder: &Path, image: &str, id: &str, version: &str) -> Result<()> {
    for (file, text) in [("image", image), ("id", id), ("version", version)] {
        fs::write(folder.join(file), text).with_context(|| format!("cannot note the {file}"))?;
    }
    Ok(())
}

/// What [`record`] noted: `image`, `id` or `version`.
///
/// # Errors
/// When it is not there.
pub fn noted(folder: &Path, file: &str) -> Result<String> {
    let path = folder.join(file);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Whether the engine still has exactly the image that a part's folder stands for.
pub fn holds(folder: &Path, image: &str) -> bool {
    noted(folder, "id").is_ok_and(|noted| id(image).is_some_and(|id| id == noted))
}
