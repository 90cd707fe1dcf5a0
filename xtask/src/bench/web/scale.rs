//! How the web app holds up as what it serves grows: rows, connections, and commits that wait for a standby.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use testbed::http::Client;
use testbed::load::{Plan, run};
use testbed::postgres::Postgres;
use testbed::users;

use super::contender::Contender;
use super::measure::{ContenderBench, WRITERS, answered, create_request};
use crate::say::{say, tell};
use crate::webapp::Database;

/// Connections that are open and say nothing.
const CONNECTIONS: [usize; 3] = [10, 100, 1000];
/// Clients that ask for lists, of as many as a busy office has.
const READERS: u32 = 4;

/// What a list costs in a table of so many rows: milliseconds within which half of the answers came, and 99 of 100.
#[derive(Debug, Serialize)]
pub struct RowsFigure {
    /// Rows in the table.
    pub rows: u32,
    /// What was asked for.
    pub list: &'static str,
    /// Half of the answers came within so many milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 came within so many milliseconds.
    pub p99_ms: f64,
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Scaling {
    /// By rows.
    pub rows: Vec<RowsFigure>,
    /// Memory in MiB by open connections: each contender's.
    pub memory_mib: Vec<(&'static str, Vec<(usize, f64)>)>,
    /// Registrations a second where each is on one server's disk.
    pub create_alone: f64,
    /// Registrations a second where each is on a standby's disk, too.
    pub create_synchronous: f64,
}

/// Measures ours, and the memory of the others that take a thousand connections.
///
/// # Errors
/// When something does not start or fails a request.
pub fn measure(bench: &ContenderBench, contenders: &[(&'static str, &Contender)], rows: &[u32]) -> Result<Scaling> {
    let (_, ours) = contenders.first().context("nothing to measure")?;
    let mut memory_mib = Vec::new();
    for (name, contender) in contenders {
        memory_mib.push((*name, by_connections(bench, contender).context(*name)?));
    }
    let (create_alone, create_synchronous) = by_commit(bench, ours)?;
    let rows = by_rows(bench, ours, rows)?;
    Ok(Scaling { rows, memory_mib, create_alone, create_synchronous })
}

fn by_connections(bench: &ContenderBench, contender: &Contender) -> Result<Vec<(usize, f64)>> {
    let running = bench.start(contender)?;
    let mut clients: Vec<Client> = Vec::new();
    let mut found = Vec::new();
    for count in CONNECTIONS {
        while clients.len() < count {
            let mut client = Client::new(running.address);
            let answer = client.send("GET", "/api/v1/users?limit=1", &[], "")?;
            if answer.status != 200 {
                bail!("connection {}: status {}", clients.len() + 1, answer.status);
            }
            clients.push(client);
        }
        found.push((count, running.memory() as f64 / f64::from(1 << 20)));
    }
    Ok(found)
}

/// Registrations a second: on a server alone, and with a standby that each waits for.
fn by_commit(bench: &ContenderBench, contender: &Contender) -> Result<(f64, f64)> {
    let primary = Postgres::start(&["shared_buffers=128MB", "max_wal_size=1GB", "wal_keep_size=64MB"])?;
    let _standby = primary.standby("standby")?;
    let name = primary.database()?;
    let database = Database { port: primary.port, name: &name };
    bench.app.migrate(database)?;
    let mut rates = Vec::new();
    for awaited in ["", "standby"] {
        primary.wait_for_standby(awaited)?;
        users::fill(&primary, &name, 1000)?;
        let running = contender.start(database, false, bench.folder)?;
        let plan = Plan { address: running.address, clients: WRITERS, time: bench.time, rate: None };
        rates.push(answered(&run(plan, 201, create_request))?.per_second());
    }
    Ok((rates[0], rates[1]))
}

fn by_rows(bench: &ContenderBench, contender: &Contender, rows: &[u32]) -> Result<Vec<RowsFigure>> {
    let mut found = Vec::new();
    for &rows in rows {
        say(&format!("{rows} users"));
        users::fill(bench.postgres, bench.database.name, rows)?;
        bench.postgres.psql("postgres", "CHECKPOINT")?;
        let running = contender.start(bench.database, false, bench.folder)?;
        for (list, path) in lists(rows) {
            let (p50_ms, p99_ms) =
                times(running.address, bench.time, &path).with_context(|| format!("{rows}: {list}"))?;
            found.push(RowsFigure { rows, list, p50_ms, p99_ms });
        }
    }
    Ok(found)
}

/// What is asked for: what everybody does, what few do, and what finds many, one and nobody.
fn lists(rows: u32) -> [(&'static str, String); 5] {
    [
        ("the first page", "/users".to_owned()),
        ("a page in the middle", format!("/users?before={}", rows / 2)),
        ("a search that finds many", "/users?q=ada".to_owned()),
        ("a search that finds one, of the oldest", "/users?q=user7%40".to_owned()),
        ("a search that finds nobody", "/users?q=zqx".to_owned()),
    ]
}

fn times(address: SocketAddr, time: Duration, path: &str) -> Result<(f64, f64)> {
    let plan = Plan { address, clients: READERS, time, rate: None };
    // Each asks for something else, or equal questions would be asked once.
    let sign = if path.contains('?') { '&' } else { '?' };
    let outcome =
        run(plan, 200, |client, _| format!("GET {path}{sign}limit={} HTTP/1.1\r\nhost: bench\r\n\r\n", 25 + client));
    let outcome = answered(&outcome)?;
    let within = |share| outcome.quantile(share).map_or(f64::NAN, |time: Duration| time.as_secs_f64() * 1000.0);
    Ok((within(0.5), within(0.99)))
}

impl Scaling {
    /// Prints the tables.
    pub fn print(&self) {
        tell("");
        tell(&format!("{:>10}  {:<40} {:>9} {:>9}", "users", "user-app", "p50, ms", "p99, ms"));
        for row in &self.rows {
            tell(&format!("{:>10}  {:<40} {:>9.2} {:>9.2}", row.rows, row.list, row.p50_ms, row.p99_ms));
        }
        tell("");
        let counts: String = CONNECTIONS.iter().map(|count| format!("{count:>9}")).collect();
        tell(&format!("{:<30}{counts}", "connections"));
        for (name, figures) in &self.memory_mib {
            let figures: String = figures.iter().map(|(_, mib)| format!("{mib:>9.1}")).collect();
            tell(&format!("{:<30}{figures}", format!("memory of {name}, MiB")));
        }
        tell("");
        tell(&format!(
            "create, requests/s: {:.0} on one server, {:.0} with a standby that each waits for",
            self.create_alone, self.create_synchronous
        ));
    }
}
