//! The images of the parts table.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::digest::Inputs;
use super::parts::{Base, GO_TOOLS, Image, Version};
use super::store::Part;
use super::{Airgap, certificates, debian, docker, gobuild, pause};

const RECIPE: &str = "1";

/// A digest of what an image is made from, its programs and its base among them.
///
/// # Errors
/// When something of it cannot be read.
pub fn key(airgap: &Airgap, image: &Image) -> Result<String> {
    let mut inputs = Inputs::default();
    inputs.add("recipe", RECIPE);
    for path in recipe_files(&airgap.sources.join(image.folder))? {
        inputs.add(&path.display().to_string(), fs::read(airgap.sources.join(image.folder).join(&path))?);
    }
    if let Base::Debian(suite) = image.base {
        inputs.add("base", debian::key(suite));
    }
    for (part, file) in image.files {
        inputs.add(file, part_key(airgap, part)?);
    }
    for (name, value) in image.args {
        inputs.add(name, value);
    }
    Ok(inputs.key())
}

/// Builds an image unless the engine has it; the folder tells its name, id and version.
///
/// # Errors
/// When the build fails.
pub fn build(airgap: &Airgap, image: &Image) -> Result<PathBuf> {
    let key = key(airgap, image)?;
    let holds = |folder: &Path| docker::noted(folder, "image").is_ok_and(|image| docker::holds(folder, &image));
    airgap.store.part(&Part { name: image.name, key: &key, holds: &holds }, |folder| {
        let context = folder.join("context");
        copy_recipe(&airgap.sources.join(image.folder), &context)?;
        for (part, file) in image.files {
            let from = airgap.store.folder(part, &part_key(airgap, part)?).join(file);
            fs::hard_link(&from, context.join(file)).with_context(|| format!("no {}", from.display()))?;
        }
        let base;
        let mut args = image.args.to_vec();
        if let Base::Debian(suite) = image.base {
            base = debian::image(suite);
            args.push(("BASE", &base));
        }
        let id = docker::build(&context, &args, &airgap.store.log(image.name))?;
        let version = version(airgap, image, &id)?;
        let name = image.image.replace("$V", &version).replace("$K", &key[..12]);
        docker::tag(&id, &name)?;
        fs::remove_dir_all(&context)?;
        docker::record(folder, &name, &id, &version)
    })
}

fn part_key(airgap: &Airgap, part: &str) -> Result<String> {
    match part {
        pause::NAME => return pause::key(airgap),
        certificates::NAME => return certificates::key(),
        _ => {}
    }
    let tool = GO_TOOLS.iter().find(|tool| tool.name == part).with_context(|| format!("no part {part}"))?;
    gobuild::key(airgap, tool)
}

fn version(airgap: &Airgap, image: &Image, id: &str) -> Result<String> {
    match image.version {
        Version::Is(version) => Ok(version.to_owned()),
        Version::Module(folder) => Ok(gobuild::module(airgap, folder)?.1.trim_start_matches('v').to_owned()),
        Version::Prints(program) => {
            let text = docker::prints(id, program)?;
            version_in(&text).with_context(|| format!("no version in {text:?}"))
        }
    }
}

/// The first word of a text that looks like a version.
fn version_in(text: &str) -> Option<String> {
    // A distribution's own suffix is left out: 2.53.3+ds1-2.
    let words = text.split_whitespace().map(|word| word.trim_start_matches('v'));
    let words = words.filter_map(|word| word.split(['+', '-']).next());
    let mut versions = words.filter(|word| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.'));
    versions.next().map(str::to_owned)
}

/// The files of a folder that an image is built from: not the pins of a Go tool beside them.
fn recipe_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = super::digest::files(folder)?;
    files.retain(|path| !["go.mod", "go.sum"].iter().any(|pin| path.ends_with(pin)));
    Ok(files)
}

/// Copies what an image is built from.
///
/// # Errors
/// When the file system refuses.
pub fn copy_recipe(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for path in recipe_files(from)? {
        let target = to.join(&path);
        fs::create_dir_all(target.parent().unwrap_or(to))?;
        fs::copy(from.join(&path), &target).with_context(|| format!("cannot copy {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::parts::{IMAGES, PROMTOOL};

    #[test]
    fn the_version_is_the_first_word_that_looks_like_one() {
        assert_eq!(version_in("postgres (PostgreSQL) 17.12 (Debian 17.12-0+deb13u1)").as_deref(), Some("17.12"));
        assert_eq!(version_in("BusyBox v1.35.0 (Debian 1:1.35.0-4) multi-call").as_deref(), Some("1.35.0"));
        assert_eq!(version_in("prometheus\t2.53.3+ds1-2+deb13u1").as_deref(), Some("2.53.3"));
        assert_eq!(version_in("none here. at all"), None);
    }

    #[test]
    fn every_image_has_a_dockerfile_that_takes_its_base_and_files() {
        for image in IMAGES.iter().chain([PROMTOOL]) {
            let path = crate::bundle::sources_folder().join(image.folder).join("Dockerfile");
            let text = fs::read_to_string(&path).unwrap();
            assert_eq!(text.contains("FROM ${BASE}"), image.base != Base::Scratch, "{}", image.name);
            for (_, file) in image.files {
                assert!(text.contains(&format!("COPY {file} ")) || text.contains("${BINARY}"), "{}", image.name);
            }
        }
    }

    #[test]
    fn names_of_images_and_parts_are_unique() {
        let mut names: Vec<_> = IMAGES.iter().map(|image| image.name).collect();
        names.extend(GO_TOOLS.iter().map(|tool| tool.name).chain([pause::NAME, certificates::NAME]));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
