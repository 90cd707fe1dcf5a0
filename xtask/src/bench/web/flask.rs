//! The yardstick: Flask, SQLAlchemy and gunicorn, in a Python environment of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use testbed::keeper::{Keeper, Signal};

use crate::bundle;
use crate::bundle::digest::Inputs;
use crate::run::Run;
use crate::say::say;
use crate::webapp::Database;
use crate::workspace;

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
        let requirements = folder().join("requirements.txt");
        let text = fs::read_to_string(&requirements).with_context(|| format!("no {}", requirements.display()))?;
        let key = Inputs::default().add("requirements", &text).key();
        let environment = bundle::cache_folder()?.join(format!("flask-{key}"));
        if !environment.join("done").is_file() {
            say("a Python environment with Flask, once");
            let log = bundle::cache_folder()?.join("flask.log");
            let made = Run::new("python3", 120).args(["-m", "venv", "--clear"]).args([&environment]).log(&log).go();
            made.context("this needs Python 3 with venv (Debian's package python3-venv)")?;
            Run::new(environment.join("bin/pip"), 600)
                .args(["install", "--require-hashes", "--only-binary=:all:", "-r"])
                .args([&requirements])
                .log(&log)
                .go()?;
            fs::write(environment.join("done"), "").context("cannot mark the environment as done")?;
        }
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
