//! `cargo xtask web`: the app on a throw-away PostgreSQL of this machine, for working on it without a cluster.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use testbed::postgres::{self, Postgres};
use testbed::users;

use crate::engine::install;
use crate::plan::Plan;
use crate::say::{say, tell};
use crate::webapp::{Database, WebApp, until_ready};
use crate::{bundle, compile};

/// How to run it.
#[derive(Debug, clap::Args)]
pub struct WebArgs {
    /// The local port of pages and API.
    #[arg(long, default_value_t = 8080, value_name = "PORT")]
    port: u16,
    /// Made-up users to begin with.
    #[arg(long, default_value_t = 60, value_name = "N")]
    users: u32,
    /// Do not ask before installing PostgreSQL where there is none.
    #[arg(short, long)]
    yes: bool,
}

/// Runs the app until Ctrl-C; then it and its database are gone.
///
/// # Errors
/// When there is no PostgreSQL, the port is taken, the app does not compile or start, or it ends by itself.
pub fn web(args: &WebArgs) -> Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], args.port));
    TcpListener::bind(address).with_context(|| format!("{address} cannot be used: give another --port"))?;
    install_postgres(args.yes, "run the web app on a PostgreSQL in a temporary folder")?;
    let app = WebApp(compile::program("user-app", compile::Profile::Dev)?);
    // Nothing in it outlives the run, so nothing needs to be safe on disk.
    let postgres = Postgres::start(&["fsync=off"])?;
    let name = postgres.database()?;
    let database = Database { port: postgres.port, name: &name };
    app.migrate(database)?;
    users::fill(&postgres, &name, args.users)?;
    let running = app.start(database, address, &[("POD_NAME", "local")], None)?;
    until_ready(&running, address, Duration::from_secs(15))?;
    say("running; Ctrl-C ends it and removes the database");
    tell(&format!("  pages     http://{address}/"));
    tell(&format!("  API       http://{address}/api/v1/users (described by /api/v1/openapi.json)"));
    tell(&format!("  database  psql -h 127.0.0.1 -p {} -U app {name}", postgres.port));
    while running.is_running() {
        std::thread::sleep(Duration::from_millis(200));
    }
    bail!("the app has ended: see its log above")
}

/// Installs PostgreSQL where there is none.
///
/// # Errors
/// When it may not or cannot be installed.
pub fn install_postgres(yes: bool, last: &str) -> Result<()> {
    if postgres::is_installed() {
        return Ok(());
    }
    let plan = Plan::nothing().with(&install::DATABASE);
    plan.agree(yes, last)?;
    install::ensure(&plan.packages, &bundle::cache_folder()?.join("apt.log"))
}
