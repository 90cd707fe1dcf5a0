//! The yardstick: Flask, SQLAlchemy and gunicorn, in a Python environment of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use testbed::keeper::{Keeper, Signal};

use crate::webapp::Database;
use crate::{python, workspace};

/// Threads of each of gunicorn's processes, and connections of each to the database.
const THREADS: usize = 4;

/// An environment with what `requirements.txt` pins.
#[derive(Debug, Clone)]
pub struct Flask {
    environment: PathBuf,
}

fn folder() -> PathBuf {
    workspace().join("xtask/bench/flask")
}

impl Flask {
    /// Makes the environment, once for these requirements; pip goes where this machine's settings send it.
    ///
    /// # Errors
    /// When there is no Python with `venv`, or pip fails.
    pub fn install() -> Result<Self> {
        let environment = python::environment("flask", &folder().join("requirements.txt"))?;
        Ok(Self { environment })
    }

    /// How it is run.
    pub fn describe(processes: usize) -> String {
        format!("gunicorn, {processes} processes with {THREADS} threads each, preloaded, access log on")
    }

    /// Starts it as for production: two processes a core and one, threads in each, a pool of connections.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, database: Database, listen: SocketAddr, failing: bool, log: &Path) -> Result<Keeper> {
        let url = format!("postgresql+psycopg://app@127.0.0.1:{}/{}", database.port, database.name);
        let mut command = Command::new(self.environment.join("bin/gunicorn"));
        command
            .args(["--workers", &processes().to_string(), "--threads", &THREADS.to_string(), "--preload"])
            .args(["--worker-class", "gthread", "--keep-alive", "75", "--timeout", "60", "--access-logfile", "-"])
            .args(["--bind", &listen.to_string(), "app:app"])
            .env("DATABASE_URL", url)
            .env("DB_POOL", THREADS.to_string())
            // Costs a round trip a request, so only where connections are going to break.
            .env("DB_PRE_PING", if failing { "1" } else { "0" })
            .env("STATIC_FOLDER", workspace().join("web/static"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(folder());
        Keeper::start(&command, Some(log), Signal::Term, None)
    }
}

/// gunicorn's own rule.
pub fn processes() -> usize {
    2 * std::thread::available_parallelism().map_or(1, usize::from) + 1
}
