//! The air-gap builder: makes a bundle (tools, manifests, images) from sources, on a machine
//! that reaches package registries only.

pub mod digest;
pub mod store;

mod assemble;
mod axe;
mod barman;
mod certificates;
mod debian;
mod docker;
mod gobuild;
mod graph;
mod images;
mod manifest;
mod node_image;
mod parts;
mod pause;
mod preload;
mod rust_image;
mod stack_images;
mod tasks;
mod web_image;
mod wheels;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use self::parts::{Base, CONTROL_PLANE, GO_TOOLS, GoTool, MANIFESTS, NEIGHBOURS, PROMTOOL, TEST_ONLY, WAL_PROGRAMS};
use self::store::Store;
use crate::engine::runtime;
use crate::run::Run;
use crate::say::say;
use crate::stackctl::Stackctl;
use crate::workspace;

/// What the builder works with.
#[derive(Debug)]
pub struct Airgap {
    store: Store,
    /// The folder of pinned sources and recipes.
    sources: PathBuf,
    go_version: String,
    /// Whether containers must do without what this machine withholds.
    lean: bool,
}

/// What to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Only {
    /// The API server, etcd, kubectl and helm, for tests of the control plane.
    ControlPlane,
    /// An S3 store and barman, for tests of the WAL programs.
    WalPrograms,
    /// What judges pages, for tests of the web app.
    Axe,
    /// What others run in a cluster: an engine of NetworkPolicies.
    Neighbours,
}

/// Everything that the builder keeps: `$XDG_CACHE_HOME/stackctl`.
///
/// # Errors
/// When there is no home folder.
pub fn cache_folder() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    Ok(cache.context("neither XDG_CACHE_HOME nor HOME is set")?.join("stackctl"))
}

/// Where a bundle is made unless something else is asked for.
///
/// # Errors
/// As [`cache_folder`].
pub fn default_folder() -> Result<PathBuf> {
    Ok(cache_folder()?.join("bundle"))
}

/// Where everything made is kept: `airgap` in the cache, or `closed` where a version before has made that. It keeps its
/// name: what is made there and the engine that runs know its path, and half an hour of building would be lost.
fn made_folder(cache: &Path) -> PathBuf {
    let before = cache.join("closed");
    if before.is_dir() { before } else { cache.join("airgap") }
}

/// Where links to the programs made are.
///
/// # Errors
/// As [`cache_folder`].
pub fn programs_folder() -> Result<PathBuf> {
    Ok(made_folder(&cache_folder()?).join("bin"))
}

/// The folder of pinned sources and recipes.
pub fn sources_folder() -> PathBuf {
    workspace().join("xtask/airgap")
}

/// Opens the folder of everything made.
///
/// # Errors
/// When it cannot be made or locked.
pub fn store() -> Result<Store> {
    Store::open(&made_folder(&cache_folder()?))
}

impl Airgap {
    /// Opens the builder's store.
    ///
    /// # Errors
    /// When the store cannot be opened or Go is missing.
    pub fn open() -> Result<Self> {
        let store = store()?;
        let go = Run::new("go", 60).args(["env", "GOVERSION", "GOOS", "GOARCH"]).output();
        let go_version = go.context("Go is needed to build from sources (1.26.6 or newer, in PATH)")?;
        Ok(Self { store, sources: sources_folder(), go_version, lean: runtime::needed()? })
    }
}

/// Makes only some parts, and links their programs into [`programs_folder`].
///
/// # Errors
/// When a part cannot be made.
pub fn make_only(only: Only) -> Result<PathBuf> {
    let airgap = Airgap::open()?;
    let names = match only {
        Only::ControlPlane => CONTROL_PLANE,
        Only::WalPrograms => WAL_PROGRAMS,
        Only::Axe => &[],
        Only::Neighbours => NEIGHBOURS,
    };
    let tools: Vec<&GoTool> = GO_TOOLS.iter().filter(|tool| names.contains(&tool.name)).collect();
    graph::run(tools.iter().flat_map(|tool| tasks::of_tool(&airgap, tool)).collect())?;
    match only {
        Only::ControlPlane => copy_manifests(&airgap)?,
        Only::WalPrograms => link(&airgap, barman::NAME, &barman::build(&airgap)?)?,
        Only::Axe => link(&airgap, axe::NAME, &axe::build(&airgap)?)?,
        Only::Neighbours => {}
    }
    link_programs(&airgap, &tools)
}

/// Upstream's release manifests, beside the programs: tests apply them to a control plane.
fn copy_manifests(airgap: &Airgap) -> Result<()> {
    let folder = airgap.store.root().join("manifests");
    fs::create_dir_all(&folder)?;
    for manifest in MANIFESTS {
        let source = gobuild::sources(airgap, manifest.folder)?.join(manifest.path);
        let text = fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
        let (place, new) = (folder.join(manifest.name), folder.join(format!(".{}", manifest.name)));
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &place))
            .with_context(|| format!("cannot write {}", place.display()))?;
    }
    Ok(())
}

/// Makes the bundle in `out`: what has not changed is taken as it is. Packages that this machine
/// lacks are installed first, and its engine is started. The web image is the one that `stackctl` wants.
///
/// # Errors
/// When a part cannot be made.
pub fn make(out: &Path, packages: &[&str], stackctl: &Stackctl) -> Result<()> {
    let airgap = Airgap::open()?;
    graph::run(tasks::all(&airgap, packages, stackctl))?;
    web_image::forget_old(&airgap)?;
    let tools: Vec<&GoTool> = GO_TOOLS.iter().filter(|tool| !TEST_ONLY.contains(&tool.name)).collect();
    link_programs(&airgap, &tools)?;
    assemble::assemble(&airgap, out, stackctl)?;
    say(&format!("the bundle is in {}", out.display()));
    Ok(())
}

/// The image with promtool, which checks Prometheus' configuration and alert rules.
///
/// # Errors
/// When it cannot be built.
pub fn promtool() -> Result<String> {
    let airgap = Airgap::open()?;
    if let Base::Debian(suite) = PROMTOOL.base {
        debian::base(&airgap, suite)?;
    }
    docker::noted(&images::build(&airgap, PROMTOOL)?, "image")
}

/// Links programs to where tests look for them.
fn link_programs(airgap: &Airgap, tools: &[&GoTool]) -> Result<PathBuf> {
    for tool in tools {
        for (_, program) in tool.programs {
            link(airgap, program, &preload::program(airgap, tool.name, program)?)?;
        }
    }
    Ok(airgap.store.root().join("bin"))
}

/// A link to something made, in place of the one that was there.
fn link(airgap: &Airgap, name: &str, to: &Path) -> Result<()> {
    let folder = airgap.store.root().join("bin");
    fs::create_dir_all(&folder)?;
    let (link, new) = (folder.join(name), folder.join(format!(".{name}")));
    let _ = fs::remove_file(&new);
    std::os::unix::fs::symlink(to, &new)?;
    fs::rename(&new, &link).with_context(|| format!("cannot link {}", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_version_before_made_is_used_where_it_is() {
        let cache = tempfile::tempdir().unwrap();
        assert_eq!(made_folder(cache.path()), cache.path().join("airgap"));
        fs::create_dir(cache.path().join("closed")).unwrap();
        assert_eq!(made_folder(cache.path()), cache.path().join("closed"));
    }
}
