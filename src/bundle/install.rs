//! Puts a bundle's files where minikube looks for them, so that it downloads nothing.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::Bundle;
use crate::error::{Failure, Result, failed};

impl Bundle {
    /// The minikube binary, checked.
    ///
    /// # Errors
    /// The bundle has none, or not the one that it lists.
    pub fn minikube(&self) -> Result<PathBuf> {
        self.verified("tools/minikube")
    }

    /// Installs the Kubernetes binaries and the preloaded images into minikube's cache below
    /// `minikube_home` (its `.minikube` folder). Returns the files of another content that were replaced.
    ///
    /// Blocks for as long as gigabytes take to be read.
    ///
    /// # Errors
    /// A file that was changed, or a folder that can't be written to.
    pub fn install_into_minikube_home(&self, minikube_home: &Path) -> Result<Vec<PathBuf>> {
        let mut replaced = Vec::new();
        let (os, arch) = self.index.platform.split_once('/').unwrap_or((&self.index.platform, ""));
        let binaries = minikube_home.join("cache").join(os).join(arch).join(&self.index.kubernetes);
        if let Some(folder) = &self.index.kubernetes_binaries {
            for name in ["kubeadm", "kubectl", "kubelet"] {
                self.install(&format!("{}/{name}", folder.trim_end_matches('/')), &binaries.join(name), &mut replaced)?;
            }
        }
        if let Some(preload) = &self.index.preload {
            let name = Path::new(preload).file_name().context("the preload has no name")?;
            self.install(preload, &minikube_home.join("cache/preloaded-tarball").join(name), &mut replaced)?;
        }
        Ok(replaced)
    }

    fn install(&self, path: &str, target: &Path, replaced: &mut Vec<PathBuf>) -> Result<()> {
        let source = self.verified(path)?;
        match fs::metadata(target) {
            // A hard link that an earlier run made is the very file that was just checked.
            Ok(there) if same_file(&there, &fs::metadata(&source)?) => return Ok(()),
            Ok(there) => {
                let expected = &self.files[path];
                if there.len() == expected.size && super::sha256_file(target)? == expected.sha256.to_ascii_lowercase() {
                    return Ok(());
                }
                replaced.push(target.to_owned());
            }
            Err(_) => {}
        }
        let folder = target.parent().context("a file has a folder")?;
        fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
        let new = folder.join(format!(".stackctl-{}.part", std::process::id()));
        let placed = link_or_copy(&source, &new, &self.files[path].sha256)
            .and_then(|()| fs::rename(&new, target).map_err(|error| cannot_write(target, &error)));
        if placed.is_err() {
            let _ = fs::remove_file(&new);
        }
        Ok(placed?)
    }
}

fn same_file(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    a.dev() == b.dev() && a.ino() == b.ino()
}

/// A hard link costs neither time nor space; another file system needs a copy.
fn link_or_copy(source: &Path, new: &Path, sha256: &str) -> std::result::Result<(), Failure> {
    let _ = fs::remove_file(new);
    if fs::hard_link(source, new).is_ok() {
        return Ok(());
    }
    let copied = copy_hashed(source, new).map_err(|error| cannot_write(new, &error))?;
    if copied != sha256.to_ascii_lowercase() {
        return Err(failed(format!("{} changed while it was copied", source.display())));
    }
    Ok(())
}

fn copy_hashed(source: &Path, new: &Path) -> io::Result<String> {
    use sha2::{Digest, Sha256};
    let mut from = fs::File::open(source)?;
    let mut to = fs::File::create(new)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let count = from.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        hash.update(&chunk[..count]);
        to.write_all(&chunk[..count])?;
    }
    let executable = from.metadata()?.permissions().mode() & 0o111;
    to.set_permissions(fs::Permissions::from_mode(0o644 | executable))?;
    to.sync_all()?;
    Ok(super::hex(&hash.finalize()))
}

/// An error of writing that names the place, and the remedy where the disk is full.
pub(crate) fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    let failure = failed(format!("cannot write {}: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => failure.remedy(format!(
            "free space on the disk of {} (df -h shows it), then run the same command again",
            path.parent().unwrap_or(path).display()
        )),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            failure.remedy("make the folder writable for you, or choose another with MINIKUBE_HOME or XDG_CACHE_HOME")
        }
        _ => failure,
    }
}
