//! The build contexts of the web image and of the backup sidecar's: what `docker build` needs, embedded, so that the
//! binary alone is enough. A context's digest is the image's tag: what is unchanged is neither built nor loaded again.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use anyhow::Context as _;
use include_dir::{Dir, include_dir};
use sha2::{Digest, Sha256};

use super::short_digest;
use crate::error::Result;

static WEB: Dir = include_dir!("$CARGO_MANIFEST_DIR/web");
static HELPER: Dir = include_dir!("$CARGO_MANIFEST_DIR/helper");
static PROTOCOL: Dir = include_dir!("$CARGO_MANIFEST_DIR/protocol");
static WAL: Dir = include_dir!("$CARGO_MANIFEST_DIR/wal");

/// Files of the build beside the programs' own. The manifests are made by the build script from the workspace's:
/// they name what the programs depend on and nothing else.
const WORKSPACE: [(&str, &str); 6] = [
    ("Dockerfile", include_str!("../../Dockerfile")),
    ("Cargo.toml", include_str!(concat!(env!("OUT_DIR"), "/workspace.toml"))),
    ("Cargo.lock", include_str!(concat!(env!("OUT_DIR"), "/workspace.lock"))),
    ("web/Cargo.toml", include_str!(concat!(env!("OUT_DIR"), "/web.toml"))),
    ("helper/Cargo.toml", include_str!(concat!(env!("OUT_DIR"), "/helper.toml"))),
    ("protocol/Cargo.toml", include_str!(concat!(env!("OUT_DIR"), "/protocol.toml"))),
];

/// The same of the WAL programs.
const WAL_WORKSPACE: [(&str, &str); 3] = [
    ("Cargo.toml", include_str!(concat!(env!("OUT_DIR"), "/wal-workspace.toml"))),
    ("Cargo.lock", include_str!(concat!(env!("OUT_DIR"), "/wal-workspace.lock"))),
    ("wal/Cargo.toml", include_str!(concat!(env!("OUT_DIR"), "/wal.toml"))),
];

/// The line of the sidecar's Dockerfile that names what it is built on.
const SIDECAR_BASE: &str = "ARG SIDECAR_IMAGE=plugin-barman-cloud-sidecar\n";

/// The build argument of both Dockerfiles that names the image in which the programs are compiled.
const BUILDER: &str = "RUST_IMAGE";

/// Folders of a package that do not reach the image.
const LEFT_OUT: [&str; 2] = ["tests/", "target/"];

/// The build context: path and content, in the order of the paths.
#[derive(Debug)]
pub struct ImageContext {
    name: &'static str,
    files: Files,
}

type Files = BTreeMap<String, Cow<'static, [u8]>>;

/// The embedded build context of the web image.
pub fn image_context() -> ImageContext {
    let mut files = Files::new();
    collect("web", &WEB, &mut files);
    collect("helper", &HELPER, &mut files);
    collect("protocol", &PROTOCOL, &mut files);
    extend(&mut files, &WORKSPACE);
    ImageContext { name: "user-app", files }
}

/// The embedded build context of the sidecar's image, on top of the plugin's own image.
///
/// # Errors
/// Only if an embedded file is broken, which a unit test rules out.
pub fn sidecar_context(base: &str) -> Result<ImageContext> {
    let mut files = Files::new();
    collect("wal", &WAL, &mut files);
    extend(&mut files, &WAL_WORKSPACE);
    let recipe = files.remove("wal/Dockerfile").context("the sidecar's Dockerfile is not embedded")?;
    let recipe = String::from_utf8(recipe.into_owned()).context("the sidecar's Dockerfile is no text")?;
    let filled_in = recipe.replacen(SIDECAR_BASE, &format!("ARG SIDECAR_IMAGE={base}\n"), 1);
    files.insert("Dockerfile".into(), filled_in.into_bytes().into());
    Ok(ImageContext { name: "plugin-barman-cloud-sidecar-wal", files })
}

fn extend(files: &mut Files, workspace: &'static [(&str, &str)]) {
    files.extend(workspace.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().into())));
}

fn collect(package: &str, dir: &'static Dir, files: &mut Files) {
    for file in dir.files() {
        let path = file.path().to_string_lossy().replace('\\', "/");
        if !LEFT_OUT.iter().any(|folder| path.starts_with(folder)) {
            files.insert(format!("{package}/{path}"), file.contents().into());
        }
    }
    for dir in dir.dirs() {
        collect(package, dir, files);
    }
}

impl ImageContext {
    /// The first 12 hex digits of the SHA-256 over every path, length and content.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (path, content) in &self.files {
            hash.update(path.as_bytes());
            hash.update([0]);
            hash.update((content.len() as u64).to_le_bytes());
            hash.update(content);
        }
        short_digest(hash)
    }

    /// The image's name, e.g. `user-app:<digest>`.
    pub fn image(&self) -> String {
        format!("{}:{}", self.name, self.digest())
    }

    /// The image in which the programs are compiled, which is upstream's: the build argument that names it, and its name.
    pub fn builder(&self) -> Option<(&'static str, &str)> {
        let recipe = std::str::from_utf8(self.files.get("Dockerfile")?).ok()?;
        let image =
            recipe.lines().find_map(|line| line.strip_prefix("ARG ")?.strip_prefix(BUILDER)?.strip_prefix('='))?;
        Some((BUILDER, image.trim()))
    }

    /// Writes the files into `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// When the file system refuses; names the file.
    pub fn write_to(&self, dir: &Path) -> Result<()> {
        for (path, content) in &self.files {
            let path = dir.join(path);
            let parent = path.parent().unwrap_or(dir);
            std::fs::create_dir_all(parent).with_context(|| format!("cannot make the folder {}", parent.display()))?;
            std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_holds_what_the_build_needs_and_no_tests() {
        let context = image_context();
        let sources = ["web/src/main.rs", "helper/src/main.rs", "protocol/src/lib.rs"];
        let manifests = ["Cargo.toml", "Cargo.lock", "web/Cargo.toml", "helper/Cargo.toml", "protocol/Cargo.toml"];
        for path in ["Dockerfile"].into_iter().chain(manifests).chain(sources) {
            assert!(context.files.contains_key(path), "{path} is missing");
        }
        assert!(!context.files.keys().any(|path| path.contains("/tests/")));
    }

    #[test]
    fn the_manifests_name_what_the_programs_depend_on_and_nothing_else() {
        let context = image_context();
        let text = |path: &str| String::from_utf8_lossy(&context.files[path]).into_owned();
        for path in ["Cargo.toml", "Cargo.lock"] {
            let text = text(path);
            assert!(text.contains("actix-web") && text.contains("diesel-async") && text.contains("kube"), "{path}");
            for other in ["indicatif", "clap", "proptest"] {
                assert!(
                    !text.contains(&format!("\"{other}\"")) && !text.contains(&format!("{other}]")),
                    "{path}: {other}"
                );
            }
        }
        assert!(text("Cargo.lock").contains("checksum"));
        assert!(!text("web/Cargo.toml").contains("proptest"));
        assert!(!text("protocol/Cargo.toml").contains("serde_json"));
        // The Dockerfile builds with this lock file as it is.
        let lock = text("Cargo.lock");
        let protocol = lock.split("[[package]]").find(|package| package.contains(r#"name = "stackctl-protocol""#));
        assert!(protocol.is_some_and(|package| package.contains("\"serde\"") && !package.contains("serde_json")));
    }

    #[test]
    fn the_digest_depends_on_every_byte_and_every_path() {
        let digest = image_context().digest();
        assert_eq!(digest.len(), 12);
        assert_eq!(digest, image_context().digest());
        let mut changed = image_context();
        changed.files.insert("web/src/main.rs".into(), b"fn main() {}".into());
        assert_ne!(digest, changed.digest());
        let mut renamed = image_context();
        let content = renamed.files.remove("web/src/main.rs").unwrap();
        renamed.files.insert("web/src/other.rs".into(), content);
        assert_ne!(digest, renamed.digest());
    }

    #[test]
    fn the_sidecars_context_names_its_base_and_the_wal_programs_alone() {
        let context = sidecar_context("some.registry/sidecar:1").unwrap();
        let text = |path: &str| String::from_utf8_lossy(&context.files[path]).into_owned();
        let recipe = text("Dockerfile");
        assert!(recipe.contains("\nARG SIDECAR_IMAGE=some.registry/sidecar:1\n"), "{recipe}");
        assert!(!recipe.contains(SIDECAR_BASE) && !context.files.contains_key("wal/Dockerfile"));
        for path in ["Cargo.toml", "Cargo.lock"] {
            let text = text(path);
            assert!(
                text.contains("object_store") && !text.contains("actix-web") && !text.contains("proptest"),
                "{path}"
            );
        }
        assert!(context.files.contains_key("wal/src/main.rs"));
        assert!(!context.files.keys().any(|path| path.contains("/tests/")));
        for context in [&context, &image_context()] {
            let (argument, image) = context.builder().unwrap();
            assert!(argument == "RUST_IMAGE" && image.starts_with("rust:1."), "{image}");
        }
        let image = context.image();
        assert!(image.starts_with("plugin-barman-cloud-sidecar-wal:"), "{image}");
        assert_ne!(image, sidecar_context("some.registry/sidecar:2").unwrap().image());
    }
}
