//! What is done with a bundle beside bringing a stack up from it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::SourceArgs;

/// Arguments of `bundle`.
#[derive(Debug, Clone, Args)]
pub struct BundleArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: BundleCommand,
}

/// The commands of `bundle`.
#[derive(Debug, Clone, Subcommand)]
pub enum BundleCommand {
    /// Make a bundle of upstream's images and manifests, on a machine with a network: for clusters that are there already.
    Create(CreateArgs),
    /// Push every image that a cluster needs for the stack to a registry, through this machine's Docker engine.
    Push(PushArgs),
}

/// Arguments of `bundle create`.
#[derive(Debug, Clone, Args)]
pub struct CreateArgs {
    /// The folder; it must not be there yet, or be empty.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Take upstream's images from this mirror, as up does.
    #[arg(long, value_name = "REGISTRY/PREFIX", env = "STACKCTL_IMAGE_MIRROR")]
    pub image_mirror: Option<String>,
}

/// Arguments of `bundle push`.
#[derive(Debug, Clone, Args)]
pub struct PushArgs {
    /// Push them here; path, tag and digest stay: up --image-mirror takes them from there.
    #[arg(long, value_name = "REGISTRY/PREFIX")]
    pub registry: String,
    /// The bundle.
    #[command(flatten)]
    pub source: SourceArgs,
}
