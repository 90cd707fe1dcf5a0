//! Debian packages that this machine lacks.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::run::Run;
use crate::say::say;

/// What the engine needs where there is none.
pub const ENGINE: [&str; 4] = ["docker.io", "containerd", "runc", "iptables"];
/// What building from sources needs: for the base images, and for what is linked statically.
pub const BUILDER: [&str; 4] = ["debootstrap", "debian-archive-keyring", "gcc", "libc6-dev"];
/// What the web app runs on without a cluster.
pub const DATABASE: [&str; 1] = ["postgresql"];
/// What the tests need: those of the web app have a PostgreSQL and a browser of their own, those of the WAL programs
/// barman.
pub const TESTS: [&str; 4] = ["postgresql", "chromium", "chromium-driver", "python3-pip"];
const INSTALL_SECONDS: u64 = 900;

/// Those of the packages that are not installed.
pub fn missing(packages: &[&'static str]) -> Vec<&'static str> {
    // It fails when one is unknown, and still prints the others.
    let installed = Run::new("dpkg-query", 30)
        .args(["-W", "-f", "${db:Status-Status} ${Package}\n"])
        .args(packages)
        .any_output()
        .unwrap_or_default();
    not_listed(packages, &installed)
}

fn not_listed(packages: &[&'static str], installed: &str) -> Vec<&'static str> {
    let there = |package: &str| installed.lines().any(|line| line.strip_prefix("installed ") == Some(package));
    packages.iter().copied().filter(|package| !there(package)).collect()
}

/// Installs packages, if any. Where no init system runs, nothing that they bring is started by it.
///
/// # Errors
/// When this machine has no apt or apt fails, with the end of its output.
pub fn ensure(packages: &[&str], log: &Path) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let all = packages.join(" ");
    if !Run::new("apt-get", 30).args(["--version"]).works() {
        bail!("these are missing, and there is no apt to install them by: {all}");
    }
    say(&format!("installing {all}"));
    let apt = |args: &[&str]| {
        Run::new("apt-get", INSTALL_SECONDS).env("DEBIAN_FRONTEND", "noninteractive").args(args).log(log)
    };
    apt(&["update", "-q"]).go().context("cannot update the list of packages")?;
    apt(&["install", "-q", "-y", "--no-install-recommends"]).args(packages).go().context("cannot install packages")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_fully_installed_counts() {
        let text = "installed gcc\nconfig-files runc\ninstalled docker.io-doc\n";
        assert_eq!(not_listed(&["gcc", "runc", "docker.io"], text), ["runc", "docker.io"]);
    }
}
