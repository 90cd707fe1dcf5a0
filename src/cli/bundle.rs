//! What is done with a bundle beside bringing a stack up from it.

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
    /// Push every image that a cluster needs for the stack to a registry, through this machine's Docker engine.
    Push(PushArgs),
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
