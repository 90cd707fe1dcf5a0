//! One turn of one contender: list, create, memory; and the list at a fixed rate.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;
use testbed::http::Client;
use testbed::load::{Outcome, Plan, run};
use testbed::postgres::Postgres;
use testbed::users;

use super::contender::{Contender, Running};
use crate::webapp::{Database, WebApp};

/// Users in the database when a turn begins.
const USERS: u32 = 10_000;
/// Rows of the list page.
const ROWS: usize = 100;
const READERS: u32 = 16;
/// Clients that register users.
pub const WRITERS: u32 = 32;
/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(250);
/// A rate is held when this share of it is answered.
const HELD: f64 = 0.95;
/// Requests before it counts.
const WARM_UP: Duration = Duration::from_secs(1);

/// What one turn has shown.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Turn {
    /// List pages of 100 rows a second.
    pub list_per_second: f64,
    /// List pages of 100 rows a second, each from another place: none is asked for together with another.
    pub pages_per_second: f64,
    /// The same for each second of processor that it used.
    pub pages_per_processor_second: f64,
    /// Registrations a second.
    pub create_per_second: f64,
    /// The most that was seen during both, in MiB.
    pub memory_mib: f64,
    /// Milliseconds from start to ready.
    pub ready_ms: f64,
}

/// Where and how long to measure.
#[derive(Debug, Clone, Copy)]
pub struct ContenderBench<'a> {
    /// The server of all.
    pub postgres: &'a Postgres,
    /// The database of all.
    pub database: Database<'a>,
    /// Ours, which makes the schema.
    pub app: &'a WebApp,
    /// Of one measurement.
    pub time: Duration,
    /// For their logs.
    pub folder: &'a std::path::Path,
}

impl ContenderBench<'_> {
    /// Starts a contender on a table of as many users as ever.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(&self, contender: &Contender) -> Result<Running> {
        users::fill(self.postgres, self.database.name, USERS)?;
        self.postgres.psql("postgres", "CHECKPOINT")?;
        contender.start(self.database, false, self.folder)
    }

    fn plan(&self, address: SocketAddr, clients: u32) -> Plan {
        Plan { address, clients, time: self.time, rate: None }
    }

    /// One turn.
    ///
    /// # Errors
    /// When it does not start, shows another page than it should, or fails a request.
    pub fn turn(&self, contender: &Contender) -> Result<Turn> {
        let running = self.start(contender)?;
        let address = running.address;
        check(address)?;
        let (ended, most) = (AtomicBool::new(false), AtomicU64::new(0));
        let (list, pages, processor, create) = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    most.fetch_max(running.memory(), Ordering::Relaxed);
                    std::thread::sleep(LOOK);
                }
            });
            run(Plan { time: WARM_UP, ..self.plan(address, READERS) }, 200, list_request);
            let list = run(self.plan(address, READERS), 200, list_request);
            let before = running.processor();
            let pages = run(self.plan(address, READERS), 200, page_request);
            let processor = running.processor() - before;
            let create = run(self.plan(address, WRITERS), 201, create_request);
            ended.store(true, Ordering::Relaxed);
            (list, pages, processor, create)
        });
        Ok(Turn {
            list_per_second: answered(&list)?.per_second(),
            pages_per_second: answered(&pages)?.per_second(),
            pages_per_processor_second: pages.times.len() as f64 / processor.max(f64::MIN_POSITIVE),
            create_per_second: answered(&create)?.per_second(),
            memory_mib: most.load(Ordering::Relaxed) as f64 / f64::from(1 << 20),
            ready_ms: running.ready.as_secs_f64() * 1000.0,
        })
    }

    /// The time within which 99 of 100 list pages came, in milliseconds, at so many a second; nothing where the
    /// rate is not held, for then the time is only that of the queue.
    ///
    /// # Errors
    /// When it does not start or fails a request.
    pub fn list_at(&self, contender: &Contender, rate: f64) -> Result<Option<f64>> {
        let running = self.start(contender)?;
        let plan = Plan { rate: Some(rate), ..self.plan(running.address, READERS) };
        run(Plan { time: WARM_UP, ..plan }, 200, list_request);
        let outcome = run(plan, 200, list_request);
        let held = answered(&outcome)?.per_second() >= rate * HELD;
        Ok(outcome.quantile(0.99).filter(|_| held).map(|time| time.as_secs_f64() * 1000.0))
    }
}

/// All must show the same: a full page.
fn check(address: SocketAddr) -> Result<()> {
    let page = Client::new(address).send("GET", &format!("/users?limit={ROWS}"), &[], "")?;
    let rows = page.body.matches("<th scope=\"row\">").count();
    if rows != ROWS {
        bail!("the list page has {rows} rows instead of {ROWS}");
    }
    Ok(())
}

/// What was measured, where no request failed.
///
/// # Errors
/// One has failed.
pub fn answered(outcome: &Outcome) -> Result<&Outcome> {
    match &outcome.failure {
        None => Ok(outcome),
        Some(why) => bail!("{} requests failed, the first by: {why}", outcome.failed),
    }
}

fn list_request(_: u32, _: u64) -> String {
    format!("GET /users?limit={ROWS} HTTP/1.1\r\nhost: bench\r\n\r\n")
}

/// A page that no other client asks for at the same time.
fn page_request(client: u32, n: u64) -> String {
    let before = 200 + (u64::from(client) + n * u64::from(READERS)) * 7 % u64::from(USERS - 200);
    format!("GET /users?limit={ROWS}&before={before} HTTP/1.1\r\nhost: bench\r\n\r\n")
}

/// A registration with a key.
pub fn create_request(client: u32, n: u64) -> String {
    let body = format!(r#"{{"name":"Bench {client}","email":"b{client}n{n}@example.org","gender":"other"}}"#);
    format!(
        "POST /api/v1/users HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
         idempotency-key: b{client}n{n}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
