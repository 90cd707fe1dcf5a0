//! The peer: Go's net/http and pgx, as one would write it for speed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use testbed::keeper::{Keeper, Signal};

use crate::run::Run;
use crate::webapp::Database;
use crate::{target_folder, workspace};

/// The compiled peer.
#[derive(Debug, Clone)]
pub struct GoPeer(PathBuf);

impl GoPeer {
    /// Compiles the peer; modules come from where this machine's settings say, and must be those of `go.sum`.
    ///
    /// # Errors
    /// When there is no Go, or it does not compile.
    pub fn build() -> Result<Self> {
        let program = target_folder().join("bench-go-peer");
        Run::new("go", 600)
            .dir(&workspace().join("xtask/bench/go"))
            .env("CGO_ENABLED", "0")
            .args(["build", "-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o"])
            .args([&program, Path::new(".")])
            .go()
            .context("this needs Go 1.26 or newer in PATH")?;
        Ok(Self(program))
    }

    /// Starts it with as many connections as ours has.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, database: Database, listen: SocketAddr, log: &Path) -> Result<Keeper> {
        let mut command = Command::new(&self.0);
        command
            .env("DATABASE_URL", format!("postgres://app@127.0.0.1:{}/{}", database.port, database.name))
            .env("LISTEN", listen.to_string())
            .env("POD_NAME", "local");
        Keeper::start(&command, Some(log), Signal::Term, None)
    }
}
