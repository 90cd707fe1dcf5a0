//! The thin OCI runtime for machines that may not raise limits: whether one is needed, and where
//! it is.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::bundle::digest::Inputs;
use crate::bundle::store::{Part, Store};
use crate::run::Run;
use crate::{target_folder, workspace};

/// The part's name, and the program's.
pub const NAME: &str = "lean-runtime";
const TARGET: &str = "x86_64-unknown-linux-musl";
const SOURCE: &str = include_str!("../bin/lean-runtime.rs");
/// Its bit in the kernel's capability sets.
const SYS_RESOURCE: u32 = 24;

/// Whether this machine withholds `CAP_SYS_RESOURCE` even from root.
///
/// # Errors
/// When the kernel does not tell.
pub fn needed() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status").context("cannot read this process's capabilities")?;
    let bounding = bounding_set(&status).context("the kernel tells no capability bounding set")?;
    Ok(bounding & (1 << SYS_RESOURCE) == 0)
}

fn bounding_set(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// A digest of what it is made from.
pub fn key() -> String {
    Inputs::default().add("source", SOURCE).add("target", TARGET).key()
}

/// Builds it, static so that it runs in any node, unless it is there.
///
/// # Errors
/// When the build fails.
pub fn build(store: &Store) -> Result<PathBuf> {
    let part = Part { name: NAME, key: &key(), holds: &|_| true };
    let folder = store.part(&part, |folder| {
        let log = store.log(NAME);
        let root = workspace();
        add_target(&log)?;
        let target = target_folder();
        Run::new("cargo", 1200)
            .dir(&root)
            .env("CARGO_TARGET_DIR", &target)
            .args(["build", "--locked", "--release", "--package", "xtask", "--bin", NAME, "--target", TARGET])
            .log(&log)
            .go()?;
        let built = target.join(TARGET).join("release").join(NAME);
        fs::copy(&built, folder.join(NAME)).with_context(|| format!("no {}", built.display()))?;
        Ok(())
    })?;
    Ok(folder.join(NAME))
}

/// Adds the static target to the toolchain where it lacks.
fn add_target(log: &std::path::Path) -> Result<()> {
    let root = workspace();
    let sysroot = Run::new("rustc", 60).dir(&root).args(["--print", "sysroot"]).output()?;
    if PathBuf::from(sysroot).join("lib/rustlib").join(TARGET).is_dir() {
        return Ok(());
    }
    Run::new("rustup", 600).dir(&root).args(["target", "add", TARGET]).log(log).go()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounding_set_is_read_from_the_kernel_s_text() {
        let without = "Name:\tx\nCapBnd:\t000001fffeffffff\nCapAmb:\t0\n";
        let with = "CapBnd:\t000001ffffffffff\n";
        assert_eq!(bounding_set(without).map(|set| set & (1 << SYS_RESOURCE)), Some(0));
        assert_ne!(bounding_set(with).map(|set| set & (1 << SYS_RESOURCE)), Some(0));
        assert_eq!(bounding_set("nothing"), None);
    }
}
