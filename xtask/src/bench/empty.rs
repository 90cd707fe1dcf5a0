//! An empty minikube cluster, started as stackctl starts it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::run::Run;

const START_SECONDS: u64 = 900;

/// A profile, and the bundle that it is made from. Deleted when dropped.
#[derive(Debug)]
pub struct EmptyProfile {
    name: String,
    minikube: PathBuf,
    manifest: Value,
}

impl EmptyProfile {
    /// Names one; makes nothing yet.
    ///
    /// # Errors
    /// When the bundle cannot be read.
    pub fn new(name: &str, bundle: &Path) -> Result<Self> {
        let file = bundle.join("bundle.json");
        let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let manifest = serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", file.display()))?;
        Ok(Self { name: name.to_owned(), minikube: bundle.join("tools/minikube"), manifest })
    }

    fn image(&self, component: &str) -> Result<&str> {
        let components = self.manifest["components"].as_array().context("the bundle has no components")?;
        let found = components.iter().find(|each| each["name"] == component).and_then(|each| each["image"].as_str());
        found.with_context(|| format!("the bundle has no image of {component}"))
    }

    fn minikube(&self, args: &[&str]) -> Run {
        Run::new(&self.minikube, START_SECONDS).args(args).args(["--profile", &self.name])
    }

    /// Starts it from nothing; what stackctl has put into minikube's cache is at hand. Returns the seconds.
    ///
    /// # Errors
    /// When minikube fails.
    pub fn start(&self) -> Result<f64> {
        let base = format!("--base-image={}", self.image("kicbase")?);
        let kubernetes = self.manifest["kubernetes"].as_str().context("the bundle names no Kubernetes version")?;
        let version = format!("--kubernetes-version={kubernetes}");
        let start = Instant::now();
        self.minikube(&[
            "start",
            "--driver=docker",
            "--container-runtime=containerd",
            "--cni=bridge",
            "--cpus=max",
            "--memory=4096mb",
            "--install-addons=false",
            "--interactive=false",
            "--keep-context",
            "--force",
            "--wait=apiserver",
        ])
        .args([base, version])
        .go()?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// What stackctl's cluster and image phases do beside that: the StorageClass, and the web image in the node.
    ///
    /// # Errors
    /// When minikube or the engine fails.
    pub fn prepare(&self, web_image: &str) -> Result<()> {
        let (provisioner, helper) = (self.image("local-path-provisioner")?, self.image("busybox")?);
        let images = format!("--images=LocalPathProvisioner={provisioner},Helper={helper}");
        self.minikube(&["addons", "enable", "storage-provisioner-rancher", &images]).go()?;
        let scratch = tempfile::tempdir().context("cannot make a folder")?;
        let archive = scratch.path().join("image.tar");
        Run::new("docker", 120).args(["save", "-o", &archive.display().to_string(), web_image]).go()?;
        Run::new("docker", 300)
            .args(["exec", "-i", &self.name, "ctr", "-n", "k8s.io", "images", "import", "-"])
            .stdin(&archive)?
            .go()
    }

    /// Deletes it with all that belongs to it; one that is not there is fine.
    ///
    /// # Errors
    /// When minikube fails.
    pub fn delete(&self) -> Result<()> {
        self.minikube(&["delete"]).go()
    }
}

impl Drop for EmptyProfile {
    fn drop(&mut self) {
        // After a success there is none left; after a failure that one is told, not this.
        let _ = self.delete();
    }
}
