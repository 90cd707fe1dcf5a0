//! A minikube profile as minikube keeps it on disk, read without starting minikube: that takes a second
//! each time, and a second `up` has no second to spare.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

use crate::error::{Result, failed};

/// A profile's configuration; keys that do not matter here are left out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Profile {
    /// The profile's name.
    pub name: String,
    /// The driver that it was made with.
    pub driver: String,
    /// Nodes that minikube has made or begun to make.
    #[serde(default, deserialize_with = "or_empty")]
    nodes: Vec<Node>,
    /// What minikube was told of Kubernetes.
    pub kubernetes_config: ProfileKubernetes,
    /// Whether more than one node was asked for.
    #[serde(default)]
    pub multi_node_requested: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(default)]
    name: String,
}

/// The Kubernetes part of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProfileKubernetes {
    /// E.g. `v1.35.4`.
    pub kubernetes_version: String,
    /// E.g. `containerd`.
    pub container_runtime: String,
    /// Network plugin or manifest file; empty: minikube's choice.
    #[serde(default, rename = "CNI")]
    pub cni: String,
}

fn or_empty<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// What is there of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Absent,
    /// A profile.
    Profile(Profile),
    /// A folder without a configuration that can be read: a start that was interrupted very early.
    HalfMade(String),
}

impl Profile {
    /// The profile's containers with the docker driver; the control plane first.
    pub fn containers(&self) -> Vec<String> {
        let single = self.nodes.len() == 1;
        let name = |node: &Node| match node.name.as_str() {
            "" => self.name.clone(),
            _ if single => self.name.clone(),
            suffix => format!("{}-{suffix}", self.name),
        };
        self.nodes.iter().map(name).collect()
    }
}

/// minikube's folder: `.minikube` in `MINIKUBE_HOME` (or that itself) or in the home folder.
///
/// # Errors
/// No home folder.
pub fn minikube_home() -> Result<PathBuf> {
    let base = match std::env::var_os("MINIKUBE_HOME").filter(|value| !value.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => std::env::home_dir().context("cannot tell the home folder: HOME is not set")?,
    };
    Ok(if base.ends_with(".minikube") { base } else { base.join(".minikube") })
}

/// Reads the profile `name` below `minikube_home`.
///
/// # Errors
/// A file that is there and can't be read.
pub fn read(minikube_home: &Path, name: &str) -> Result<Found> {
    let folder = minikube_home.join("profiles").join(name);
    let path = folder.join("config.json");
    match std::fs::read(&path) {
        // minikube writes this file in place: after an interruption it can be cut short.
        Ok(bytes) => Ok(match serde_json::from_slice(&bytes) {
            Ok(profile) => Found::Profile(profile),
            Err(error) => Found::HalfMade(format!("{} is not readable: {error}", path.display())),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(if folder.is_dir() {
            Found::HalfMade(format!("{} is not there", path.display()))
        } else {
            Found::Absent
        }),
        Err(error) => Err(failed(format!("cannot read {}: {error}", path.display())).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(nodes: &str) -> Profile {
        let text = format!(
            r#"{{"Name": "stackctl", "Driver": "docker", "Nodes": {nodes}, "MultiNodeRequested": true, "Memory": 4096,
            "KubernetesConfig": {{"KubernetesVersion": "v1.35.4", "ContainerRuntime": "containerd", "CNI": "bridge"}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn containers_are_named_as_minikube_names_them() {
        assert_eq!(profile(r#"[{"Name": ""}]"#).containers(), ["stackctl"]);
        assert_eq!(profile(r#"[{"Name": "stackctl"}]"#).containers(), ["stackctl"]);
        assert_eq!(profile(r#"[{"Name": ""}, {"Name": "m02"}]"#).containers(), ["stackctl", "stackctl-m02"]);
        assert!(profile("null").containers().is_empty());
    }

    #[test]
    fn absent_half_made_and_there_are_told_apart() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(read(home.path(), "p").unwrap(), Found::Absent);
        let folder = home.path().join("profiles/p");
        std::fs::create_dir_all(&folder).unwrap();
        assert!(matches!(read(home.path(), "p").unwrap(), Found::HalfMade(_)));
        std::fs::write(folder.join("config.json"), "{\"Name\": \"p\"").unwrap();
        assert!(matches!(read(home.path(), "p").unwrap(), Found::HalfMade(_)));
    }
}
