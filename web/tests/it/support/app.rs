//! The program, started for a test.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testbed::http::{Answer, Client, form};

use super::eventually;
use super::postgres::Postgres;

/// A running program, ended with the value.
pub struct App {
    /// Pages, API and health.
    pub address: SocketAddr,
    /// Where the metrics are.
    pub metrics: SocketAddr,
    process: Child,
    log: PathBuf,
}

/// The program with the database's address, ready for further settings.
pub fn program(port: u16, database: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_user-app"));
    command
        .env_clear()
        .env("DB_HOST", "127.0.0.1")
        .env("DB_PORT", port.to_string())
        .env("DB_NAME", database)
        .env("DB_SSLMODE", "disable")
        .env("DRAIN_SECONDS", "0")
        .env("WORKERS", "2");
    command
}

/// Brings a database's schema up to date.
pub fn migrate(port: u16, database: &str) {
    let output = program(port, database).arg("migrate").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

impl App {
    /// On a new database of the shared server.
    pub fn start() -> Self {
        Self::on(Postgres::shared().port, &Self::database())
    }

    /// A new database of the shared server, with its schema.
    pub fn database() -> String {
        let database = Postgres::shared().database();
        migrate(Postgres::shared().port, &database);
        database
    }

    /// On a database that has its schema.
    pub fn on(port: u16, database: &str) -> Self {
        Self::with(port, database, &[])
    }

    /// The same with settings; waits until it is ready.
    pub fn with(port: u16, database: &str, settings: &[(&str, &str)]) -> Self {
        let app = Self::unready(port, database, settings);
        eventually("ready", Duration::from_secs(10), || app.try_get("/readyz").is_ok_and(|a| a.status == 200));
        app
    }

    /// The same without waiting.
    pub fn unready(port: u16, database: &str, settings: &[(&str, &str)]) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], testbed::free_port()));
        let metrics = SocketAddr::from(([127, 0, 0, 1], testbed::free_port()));
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("user-app-{}.log", address.port()));
        let process = program(port, database)
            .env("LISTEN", address.to_string())
            .env("METRICS_LISTEN", metrics.to_string())
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { address, metrics, process, log }
    }

    /// A new connection to it.
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// Sends on a new connection.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.client().send(method, path, headers, body).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    fn try_get(&self, path: &str) -> std::io::Result<Answer> {
        self.client().send("GET", path, &[], "")
    }

    /// Reads a page.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "")
    }

    /// Sends JSON, under a key unless it is empty.
    pub fn json(&self, method: &str, path: &str, key: &str, body: &str) -> Answer {
        let mut headers = vec![("content-type", "application/json")];
        if !key.is_empty() {
            headers.push(("idempotency-key", key));
        }
        self.send(method, path, &headers, body)
    }

    /// Sends a form that was got from `from`, with these fields added.
    pub fn submit(&self, from: &Answer, to: &str, fields: &[(&str, &str)]) -> Answer {
        let (csrf, key) = (from.hidden("csrf"), from.hidden("key"));
        let mut all = vec![("csrf", csrf.as_str()), ("key", key.as_str())];
        all.extend(fields);
        let cookie = format!("csrf={csrf}");
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("cookie", cookie.as_str())];
        self.send("POST", to, &headers, &form(&all))
    }

    /// A counter or gauge of `/metrics`, by its full name with labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text = Client::new(self.metrics).send("GET", "/metrics", &[], "").unwrap().body;
        let line = text.lines().find(|l| l.rsplit_once(' ').is_some_and(|(n, _)| n == name));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    /// What it has logged so far.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// The app's process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Asks it to end, as the cluster does.
    pub fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end; whether it ended in order.
    pub fn ended(&mut self, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.success();
            }
            assert!(Instant::now() < deadline, "still running after {at_most:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("the program's log: {}", self.log.display());
        } else {
            let _ = std::fs::remove_file(&self.log);
        }
    }
}
