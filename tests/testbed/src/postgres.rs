//! Throw-away PostgreSQL servers from the machine's own package.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::keeper::{Keeper, Signal};
use crate::{free_port, until};

/// Where Debian's packages put each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// For a server to answer, and for a standby to follow.
const START: Duration = Duration::from_secs(30);

/// A server on 127.0.0.1, ended and removed with the value, or with this process at the latest. Its role is
/// `app`, a superuser without a password.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    /// Where it listens.
    pub port: u16,
    keeper: Keeper,
}

/// The folder with `initdb` and its like, of the newest version there is.
fn programs() -> Result<PathBuf> {
    let version = |folder: &PathBuf| folder.parent()?.file_name()?.to_str()?.parse::<f64>().ok();
    let installed = std::fs::read_dir(VERSIONS).into_iter().flatten();
    let mut folders: Vec<PathBuf> = installed
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists() && version(bin).is_some())
        .collect();
    folders.sort_by(|a, b| version(a).partial_cmp(&version(b)).unwrap_or(std::cmp::Ordering::Equal));
    let in_path = || std::env::split_paths(&std::env::var_os("PATH")?).find(|folder| folder.join("initdb").exists());
    folders.pop().or_else(in_path).context("there is no PostgreSQL server here: install the package `postgresql`")
}

/// Whether there is a PostgreSQL server on this machine.
pub fn is_installed() -> bool {
    programs().is_ok()
}

/// PostgreSQL refuses to run as root; then its package's own user runs it.
fn as_postgres(program: &str) -> Result<Command> {
    let program = programs()?.join(program);
    let root = std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0);
    if !root {
        return Ok(Command::new(program));
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    Ok(command)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.current_dir("/").output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn init(folder: &Path) -> Result<()> {
    run(as_postgres("initdb")?
        .args(["-U", "app", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "-D"])
        .arg(folder.join("data")))
}

fn new_folder() -> Result<PathBuf> {
    let folder = tempfile::Builder::new().prefix("stackctl-postgres-").tempdir().context("no temporary folder")?.keep();
    // Its owner must be able to work in it.
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777))?;
    Ok(folder)
}

impl Postgres {
    /// A new, empty primary with these settings, each `name=value`.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start; with the end of its log.
    pub fn start(settings: &[&str]) -> Result<Self> {
        let folder = new_folder()?;
        init(&folder)?;
        Self::run_in(folder, settings)
    }

    /// A new, empty primary that can encrypt, with this certificate and key, both PEM.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_encrypted(certificate: &str, key: &str) -> Result<Self> {
        let folder = new_folder()?;
        init(&folder)?;
        let data = folder.join("data");
        let owner = std::fs::metadata(&data)?;
        let mut settings = vec!["ssl=on".to_owned()];
        for (setting, name, text) in [("ssl_cert_file", "server.crt", certificate), ("ssl_key_file", "server.key", key)]
        {
            let path = data.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid()))?;
            settings.push(format!("{setting}={name}"));
        }
        Self::run_in(folder, &settings.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// A standby that follows this primary, under the given name.
    ///
    /// # Errors
    /// When it does not start or does not follow.
    pub fn standby(&self, name: &str) -> Result<Self> {
        let folder = new_folder()?;
        let from = format!("host=127.0.0.1 port={} user=app application_name={name}", self.port);
        run(as_postgres("pg_basebackup")?
            .args(["-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", &from, "-D"])
            .arg(folder.join("data")))?;
        let standby = Self::run_in(folder, &["wal_retrieve_retry_interval=100ms"])?;
        let streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        until("the standby streams", START, || self.psql("postgres", streaming).is_ok_and(|n| n != "0"))?;
        Ok(standby)
    }

    fn run_in(folder: PathBuf, settings: &[&str]) -> Result<Self> {
        let port = free_port();
        let mut server = as_postgres("postgres")?;
        server.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string(), "-k"]).arg(&folder);
        let fixed = ["listen_addresses=127.0.0.1", "max_connections=200", "shared_buffers=32MB", "max_wal_size=256MB"];
        for setting in fixed.iter().chain(settings) {
            server.args(["-c", setting]);
        }
        let keeper = Keeper::start(&server, Some(&folder.join("log")), Signal::Int, Some(&folder))?;
        let postgres = Self { folder, port, keeper };
        until("PostgreSQL answers", START, || postgres.psql("postgres", "SELECT 1").is_ok())
            .with_context(|| postgres.keeper.tail())?;
        Ok(postgres)
    }

    /// Makes a database with a name of its own and returns the name.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn database(&self) -> Result<String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(name)
    }

    /// The answer to one command, unaligned.
    ///
    /// # Errors
    /// What the server says.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String> {
        let output = Command::new(programs()?.join("psql"))
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", "app", "-h", "127.0.0.1"])
            .args(["-p", &self.port.to_string(), "-d", database, "-c", sql])
            .output()
            .context("cannot start psql")?;
        if !output.status.success() {
            bail!("{sql}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Has each commit wait until a standby of this name has it on disk; empty: until this server has.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn wait_for_standby(&self, name: &str) -> Result<()> {
        self.psql("postgres", &format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'"))?;
        self.psql("postgres", "SELECT pg_reload_conf()")?;
        let set = || self.psql("postgres", "SHOW synchronous_standby_names").is_ok_and(|now| now == name);
        until("the setting holds", Duration::from_secs(5), set)
    }

    /// Makes a standby a primary.
    ///
    /// # Errors
    /// When the server refuses or is not one within 30 seconds.
    pub fn promote(&self) -> Result<()> {
        self.psql("postgres", "SELECT pg_promote(true, 30)").map(drop)
    }

    /// Stops at once, as when its machine dies: no shutdown, nothing flushed, no goodbye.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self) -> Result<()> {
        let file = self.folder.join("data/postmaster.pid");
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let pid = text.lines().next().context("it has no process")?.to_owned();
        // The server's processes are children of the first one.
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        for process in std::iter::once(pid.as_str()).chain(children.split_whitespace()) {
            // One that has ended meanwhile is as it should be.
            let _ = Command::new("kill").args(["-KILL", process]).stderr(Stdio::null()).status();
        }
        Ok(())
    }

    /// The server's folder, gone when it has ended.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}
