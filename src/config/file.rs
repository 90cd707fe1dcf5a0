//! The configuration file and the folders.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

use super::{choices::Choices, sizes::SizesTable};
use crate::{
    cli::{Extra, Optional, Size},
    error::{Result, usage},
};

/// The configuration file, `config.toml`. Unknown keys are refused: a typing error must not pass for a default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct File {
    pub context: Option<String>,
    pub kubeconfig: Option<PathBuf>,
    pub profile: Option<String>,
    pub namespace: Option<String>,
    pub timeout: Option<String>,
    bundle: Option<PathBuf>,
    registry: Option<String>,
    image_mirror: Option<String>,
    pull_secret: Option<String>,
    priority_class: Option<String>,
    size: Option<Size>,
    pub sizes: SizesTable,
    instances: Option<u32>,
    storage: Option<String>,
    storage_class: Option<String>,
    backup_s3: Option<String>,
    backup_s3_region: Option<String>,
    backup_s3_ca: Option<String>,
    backup_storage: Option<String>,
    backup_keep: Option<String>,
    backup_schedule: Option<String>,
    host: Option<String>,
    ingress_class: Option<String>,
    gateway: Option<String>,
    tls_secret: Option<String>,
    tls_issuer: Option<String>,
    trusted_proxies: Option<String>,
    nodes: Option<u32>,
    cpus: Option<u32>,
    memory: Option<String>,
    without: Vec<Optional>,
    with: Vec<Extra>,
}

impl File {
    /// What the file chooses of a stack.
    pub fn choices(&self) -> Choices {
        let file = self.clone();
        Choices {
            bundle: file.bundle,
            registry: file.registry,
            image_mirror: file.image_mirror,
            pull_secret: file.pull_secret,
            priority_class: file.priority_class,
            size: file.size,
            instances: file.instances,
            storage: file.storage,
            storage_class: file.storage_class,
            backup_s3: file.backup_s3,
            backup_s3_region: file.backup_s3_region,
            backup_s3_ca: file.backup_s3_ca,
            backup_storage: file.backup_storage,
            backup_keep: file.backup_keep,
            backup_schedule: file.backup_schedule,
            host: file.host,
            ingress_class: file.ingress_class,
            gateway: file.gateway,
            tls_secret: file.tls_secret,
            tls_issuer: file.tls_issuer,
            trusted_proxies: file.trusted_proxies,
            nodes: file.nodes,
            cpus: file.cpus,
            memory: file.memory,
            without: Some(file.without).filter(|parts| !parts.is_empty()),
            with: Some(file.with).filter(|extras| !extras.is_empty()),
        }
    }
}

/// Reads the file that was asked for, or the user's, which need not be there.
///
/// # Errors
/// A file that can't be read or parsed (exit code 2).
pub(super) fn read(path: Option<&Path>) -> Result<File> {
    let (path, asked) = match path {
        Some(path) => (path.to_owned(), true),
        None => (folder("XDG_CONFIG_HOME", ".config")?.join("config.toml"), false),
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !asked => return Ok(File::default()),
        Err(error) => return Err(usage(format!("cannot read the configuration {}: {error}", path.display())).into()),
    };
    toml::from_str(&text).map_err(|error| {
        usage(format!("the configuration {} is not valid: {}", path.display(), error.to_string().trim_end())).into()
    })
}

/// The folder of stackctl's that this variable of the XDG base directory specification leads to.
///
/// # Errors
/// Neither the variable nor `HOME` is set.
pub(super) fn folder(variable: &str, default: &str) -> Result<PathBuf> {
    // The specification says that a relative path is to be ignored.
    if let Some(path) = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute()) {
        return Ok(path.join("stackctl"));
    }
    let home = std::env::home_dir().context("cannot tell the home folder: HOME is not set")?;
    Ok(home.join(default).join("stackctl"))
}
