//! Throw-away PostgreSQL servers from the machine's own package.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::eventually;

/// A server, ended and removed with the value, or with the test run at the latest.
pub struct Postgres {
    folder: PathBuf,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// Ends the server when its standard input closes, however the run ends.
    keeper: Child,
}

/// The folder with `initdb` and its like.
fn programs() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
            .filter(|bin| bin.join("initdb").exists())
            .collect();
        versions.sort();
        versions.pop().expect("these tests need PostgreSQL: install the package `postgresql`")
    })
}

/// A port that is free now and that no other test is given. Below the range from which the
/// kernel gives ports to outgoing connections, so that none of them takes it meanwhile.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(12_000 + (std::process::id().wrapping_mul(97).wrapping_add(n)) % 20_000).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// PostgreSQL refuses to run as root; then its own user runs it.
fn as_postgres(program: &str) -> Command {
    let program = programs().join(program);
    let root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if !root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

fn run(command: &mut Command) {
    let output = command.current_dir("/").output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn new_folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("user-app-test-{}-{n}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    // Its owner must be able to work in it.
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

impl Postgres {
    /// One for all tests that don't break theirs.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&["fsync=off"]))
    }

    /// A new, empty primary.
    pub fn start(settings: &[&str]) -> Self {
        let folder = new_folder();
        let data = folder.join("data");
        run(as_postgres("initdb")
            .args(["-U", "app", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "-D"])
            .arg(&data));
        Self::run_in(folder, settings)
    }

    /// A standby that follows this primary, under the given name.
    pub fn standby(&self, name: &str) -> Self {
        let folder = new_folder();
        let from = format!("host=127.0.0.1 port={} user=app application_name={name}", self.port);
        run(as_postgres("pg_basebackup")
            .args(["-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", &from, "-D"])
            .arg(folder.join("data")));
        let standby = Self::run_in(folder, &["wal_retrieve_retry_interval=100ms"]);
        eventually("the standby streams", Duration::from_secs(20), || {
            self.psql("postgres", "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") != "0"
        });
        standby
    }

    fn run_in(folder: PathBuf, settings: &[&str]) -> Self {
        let port = free_port();
        let mut server = as_postgres("postgres");
        server.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string(), "-k", folder.to_str().unwrap()]);
        let fixed = ["listen_addresses=127.0.0.1", "max_connections=200", "shared_buffers=32MB", "max_wal_size=256MB"];
        for setting in fixed.iter().chain(settings) {
            server.args(["-c", setting]);
        }
        let log = std::fs::File::create(folder.join("log")).unwrap();
        // The shell stays behind to end the server and remove its folder, even if this run
        // is killed: then too its input closes.
        let script = r#"folder=$1; shift; "$@" </dev/null & echo $! > "$folder/pid"; read -r _; kill -INT $!; wait $!; rm -rf "$folder""#;
        let keeper = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(&folder)
            .arg(server.get_program())
            .args(server.get_args())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let postgres = Self { folder, port, keeper };
        eventually("PostgreSQL answers", Duration::from_secs(30), || postgres.try_psql("postgres", "SELECT 1").is_ok());
        postgres
    }

    /// Makes a database with a name of its own and returns the name.
    pub fn database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// The answer of one command, unaligned.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        self.try_psql(database, sql).unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    fn try_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let output = Command::new(programs().join("psql"))
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", "app", "-h", "127.0.0.1"])
            .args(["-p", &self.port.to_string(), "-d", database, "-c", sql])
            .output()
            .map_err(|e| e.to_string())?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Makes a standby a primary.
    pub fn promote(&self) {
        self.psql("postgres", "SELECT pg_promote(true, 30)");
    }

    /// Stops at once, as when its machine dies: no shutdown, nothing flushed, no goodbye.
    pub fn kill(&self) {
        let pid = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap().to_owned();
        // The server's processes are children of the first one.
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        for process in std::iter::once(pid.as_str()).chain(children.split_whitespace()) {
            let _ = Command::new("kill").args(["-KILL", process]).output();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
