//! What is asked of the database and its backups.

use clap::{Args, Subcommand};

/// Arguments of `backup`.
#[derive(Debug, Clone, Args)]
pub struct BackupArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: BackupCommand,
}

/// The commands of `backup`.
#[derive(Debug, Clone, Subcommand)]
pub enum BackupCommand {
    /// Take a base backup now.
    Create,
    /// Show what can be restored, as the store itself tells it.
    List,
    /// Prove the backups: restore them into a scratch database, read all of it, and delete it.
    Verify,
    /// Show when base backups are taken and how long they are kept.
    Schedule,
}

/// Arguments of `restore`.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// What to restore: latest, a time such as 2026-11-24T11:05:00Z, or a backup's name [default: latest].
    #[arg(long, value_name = "WHAT")]
    pub to: Option<String>,
    /// Whose backups: a server of `backup list` [default: those of the database that the app uses].
    #[arg(long, value_name = "SERVER")]
    pub from: Option<String>,
    /// The new database's name [default: user-db- and the time].
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Show the databases beside the one that the app uses: restored ones, and those that it used before.
    #[arg(long, conflicts_with_all = ["to", "from", "name", "discard", "promote"])]
    pub list: bool,
    /// Have the app use the restored database, after a look at it; or the one of this name, restored before. The one
    /// that the app used is stopped and kept.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    pub promote: Option<String>,
    /// Delete a database that the app does not use, with its volumes.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["to", "from", "name", "promote"])]
    pub discard: Option<String>,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Instances of the new database [default: as many as the database is asked for].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=9))]
    pub instances: Option<u32>,
}

/// Arguments of `switchover`.
#[derive(Debug, Clone, Args)]
pub struct SwitchoverArgs {
    /// The instance that is to be the primary [default: the standby that is least behind].
    pub instance: Option<String>,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
}
