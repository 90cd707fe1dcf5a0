//! `stackctl backup`: base backups and the archived WAL.

mod create;
mod list;
mod schedule;
mod verify;

use super::interruptible;
use crate::{
    cli::{BackupCommand, Global},
    error::Result,
    ui::Style,
};

/// Runs one of its commands.
///
/// # Errors
/// The command's.
pub async fn run(global: &Global, command: &BackupCommand, style: Style) -> Result<u8> {
    match command {
        BackupCommand::Create => interruptible(create::run(global, style)).await,
        BackupCommand::List => interruptible(list::run(global, style)).await,
        // It deletes its scratch database when it is interrupted.
        BackupCommand::Verify => verify::run(global, style).await,
        BackupCommand::Schedule => interruptible(schedule::run(global, style)).await,
    }
}
