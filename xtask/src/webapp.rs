//! The web app, as the developer tasks start it: on a throw-away PostgreSQL.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use testbed::http::Client;
use testbed::keeper::{Keeper, Signal};

use crate::run::Run;

/// A compiled app.
#[derive(Debug, Clone)]
pub struct WebApp(pub PathBuf);

/// A database on this machine.
#[derive(Debug, Clone, Copy)]
pub struct Database<'a> {
    /// On 127.0.0.1.
    pub port: u16,
    /// The database's name.
    pub name: &'a str,
}

impl Database<'_> {
    /// The variables that lead the app to it, and to nothing else.
    fn variables(&self) -> [(&'static str, String); 4] {
        let text = |text: &str| text.to_owned();
        [
            ("DB_HOST", text("127.0.0.1")),
            ("DB_PORT", self.port.to_string()),
            ("DB_NAME", text(self.name)),
            ("DB_SSLMODE", text("disable")),
        ]
    }
}

impl WebApp {
    /// Brings the database's schema up to date.
    ///
    /// # Errors
    /// When a migration fails; with the end of its log.
    pub fn migrate(&self, database: Database) -> Result<()> {
        let run = Run::new(&self.0, 60).args(["migrate"]).without_env("DB_CREDENTIALS_DIR");
        let variables = database.variables();
        variables.into_iter().fold(run, |run, (name, value)| run.env(name, value)).go()
    }

    /// Starts the app; it ends with the value, or with this program.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        &self,
        database: Database,
        listen: SocketAddr,
        settings: &[(&str, &str)],
        log: Option<&Path>,
    ) -> Result<Keeper> {
        let mut command = Command::new(&self.0);
        command
            .arg("serve")
            .envs(database.variables())
            .env_remove("DB_CREDENTIALS_DIR")
            .env("LISTEN", listen.to_string())
            .env("METRICS_LISTEN", SocketAddr::from(([127, 0, 0, 1], testbed::free_port())).to_string())
            .env("DRAIN_SECONDS", "0")
            .envs(settings.iter().copied());
        Keeper::start(&command, log, Signal::Term, None)
    }
}

/// Waits until what was started says that it is ready.
///
/// # Errors
/// When it has ended, or does not say so in time; with the end of its log.
pub fn until_ready(app: &Keeper, address: SocketAddr, at_most: Duration) -> Result<()> {
    let ready = || Client::new(address).send("GET", "/readyz", &[], "").is_ok_and(|answer| answer.status == 200);
    testbed::until_every(Duration::from_millis(1), "ready", at_most, || ready() || !app.is_running())
        .and_then(|()| if app.is_running() { Ok(()) } else { Err(anyhow::anyhow!("it has ended")) })
        .with_context(|| format!("{address} is not ready; the end of its log:\n{}", app.tail()))
}
