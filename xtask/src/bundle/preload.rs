//! minikube's preload: one archive with every image of the stack, unpacked, which minikube puts
//! into each node's volume before the node starts, workers too, without any network.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::digest::Inputs;
use super::parts::{GO_TOOLS, IMAGES, KUBERNETES};
use super::store::Part;
use super::{Airgap, docker, gobuild, images, node_image};
use crate::run::Run;

/// The part's name.
pub const NAME: &str = "preload";
const RECIPE: &str = "2";
/// The version of the archive's layout that minikube 1.38 looks for.
const LAYOUT: &str = "v18";
/// minikube takes a preload for one only if it holds its stock storage provisioner too, even where that
/// addon is off; without it it removes the other images, and kubeadm then waits minutes for a registry.
/// Nothing runs it here: another image under its name will do.
const STAND_IN: [&str; 2] = ["docker.io/library/busybox:stable", "gcr.io/k8s-minikube/storage-provisioner:v5"];
const READY: Duration = Duration::from_secs(30);

/// Programs that minikube wants in the node: the part and its file.
pub const BINARIES: [(&str, &str); 3] =
    [("kubernetes", "kubelet"), ("kubernetes", "kubeadm"), ("kube-apiserver", "kubectl")];

/// The name under which minikube looks for the archive.
pub fn file_name() -> String {
    format!("preloaded-images-k8s-{LAYOUT}-{KUBERNETES}-containerd-overlay2-amd64.tar.lz4")
}

/// Where a Go program is that has been built.
///
/// # Errors
/// When there is no such part.
pub fn program(airgap: &Airgap, part: &str, file: &str) -> Result<PathBuf> {
    let tool = GO_TOOLS.iter().find(|tool| tool.name == part).with_context(|| format!("no part {part}"))?;
    Ok(airgap.store.folder(part, &gobuild::key(airgap, tool)?).join(file))
}

/// A digest of what the archive is made from.
///
/// # Errors
/// When something of it cannot be read.
pub fn key(airgap: &Airgap) -> Result<String> {
    let mut inputs = Inputs::default();
    inputs.add("recipe", RECIPE).add("name", file_name()).add("node", node_image::key(airgap)?);
    for image in IMAGES {
        inputs.add(image.name, images::key(airgap, image)?);
    }
    for (part, file) in BINARIES {
        inputs.add(file, program(airgap, part, file)?.display().to_string());
    }
    Ok(inputs.key())
}

/// Makes the archive unless it is there.
///
/// # Errors
/// When the engine fails.
pub fn build(airgap: &Airgap) -> Result<PathBuf> {
    let key = key(airgap)?;
    airgap.store.part(&Part { name: NAME, key: &key, holds: &|_| true }, |folder| {
        let log = airgap.store.log(NAME);
        let mut names = Vec::new();
        for image in IMAGES {
            let folder = airgap.store.folder(image.name, &images::key(airgap, image)?);
            names.push(docker::noted(&folder, "image")?);
        }
        let scratch = tempfile::tempdir_in(folder).context("cannot make a folder")?;
        let archive = scratch.path().join("images.tar");
        docker::save(&names.iter().map(String::as_str).collect::<Vec<_>>(), &archive)?;
        let (image, name) = (node_image::image(airgap)?, format!("stackctl-preload-{}", &key[..8]));
        let node = Node::start(&image, &name, &log)?;
        node.import(&archive)?;
        node.copy_binaries(airgap)?;
        node.stop()?;
        node.archive(folder)?;
        drop(node);
        drop(scratch);
        Ok(())
    })
}

/// A container of the node image whose containerd works on a volume of its own; both are removed
/// when it is dropped.
struct Node<'a> {
    image: &'a str,
    name: &'a str,
    log: &'a Path,
}

impl<'a> Node<'a> {
    fn start(image: &'a str, name: &'a str, log: &'a Path) -> Result<Self> {
        let node = Self { image, name, log };
        node.remove();
        let volume = format!("{name}:/var");
        node.docker(120, &["run", "-d", "--privileged", "--name", name, "-v", &volume, "--network", "none"])
            .args(["--entrypoint", "containerd", image])
            .go()?;
        let deadline = Instant::now() + READY;
        while node.docker(10, &["exec", name, "ctr", "version"]).go().is_err() {
            if Instant::now() > deadline {
                bail!("containerd in the node image does not answer within {} s", READY.as_secs());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(node)
    }

    fn docker(&self, seconds: u64, args: &[&str]) -> Run {
        Run::new("docker", seconds).args(args).log(self.log)
    }

    fn import(&self, archive: &Path) -> Result<()> {
        self.docker(600, &["exec", "-i", self.name, "ctr", "-n", "k8s.io", "images", "import", "-"])
            .stdin(archive)?
            .go()?;
        let [from, to] = STAND_IN;
        self.docker(30, &["exec", self.name, "ctr", "-n", "k8s.io", "images", "tag", from, to]).go()?;
        // What has been unpacked is not needed a second time as an archive: half of the size.
        self.docker(120, &["exec", self.name, "ctr", "-n", "k8s.io", "content", "prune", "references"]).go()
    }

    fn copy_binaries(&self, airgap: &Airgap) -> Result<()> {
        let folder = format!("/var/lib/minikube/binaries/{KUBERNETES}");
        self.docker(30, &["exec", self.name, "mkdir", "-p", &folder]).go()?;
        for (part, file) in BINARIES {
            let from = program(airgap, part, file)?.display().to_string();
            let to = format!("{}:{folder}/{file}", self.name);
            self.docker(120, &["cp", &from, &to]).go()?;
        }
        Ok(())
    }

    fn stop(&self) -> Result<()> {
        self.docker(60, &["stop", "-t", "30", self.name]).go()
    }

    fn archive(&self, folder: &Path) -> Result<()> {
        let volume = format!("{}:/var:ro", self.name);
        let out = format!("{}:/out", folder.display());
        let script = format!(
            "set -e; cd /var; rm -f /out/part; \
             tar --numeric-owner --xattrs --xattrs-include='*' -cf - ./lib/containerd ./lib/minikube/binaries \
             | lz4 -q -1 - /out/part; mv /out/part /out/{}",
            file_name()
        );
        self.docker(600, &["run", "--rm", "--network", "none", "-v", &volume, "-v", &out])
            .args(["--entrypoint", "bash", self.image, "-o", "pipefail", "-c", &script])
            .go()?;
        let file = folder.join(file_name());
        fs::metadata(&file).with_context(|| format!("no {}", file.display())).map(drop)
    }

    fn remove(&self) {
        // Nothing to remove is the usual case.
        let _ = self.docker(60, &["rm", "-f", self.name]).go();
        let _ = self.docker(60, &["volume", "rm", "-f", self.name]).go();
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}
