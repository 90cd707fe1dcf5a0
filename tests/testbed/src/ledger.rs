//! Registrations at a steady rate, with a ledger of what was answered.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::http::Client;
use crate::postgres::Postgres;

/// Clients that register one user after the other.
#[derive(Debug)]
pub struct Registrations {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Ledger>>,
}

/// What the clients were told.
#[derive(Debug, Default)]
pub struct Ledger {
    /// E-mail addresses whose registration was acknowledged.
    pub acknowledged: Vec<String>,
    /// What went wrong, in words.
    pub errors: Vec<String>,
    /// The longest that one registration took.
    pub longest: Duration,
}

impl Registrations {
    /// `clients` of them, together `rate` a second.
    pub fn start(addresses: &[SocketAddr], clients: u32, rate: u32) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let stop = Arc::new(AtomicBool::new(false));
        let run = NEXT.fetch_add(1, Ordering::Relaxed);
        let threads = (0..clients)
            .map(|n| {
                let stop = Arc::clone(&stop);
                let address = addresses[n as usize % addresses.len()];
                let pause = Duration::from_secs(1) * clients / rate;
                std::thread::spawn(move || register(address, &format!("l{run}c{n}"), pause, &stop))
            })
            .collect();
        Self { stop, threads }
    }

    /// Lets the requests under way come to their end and adds up.
    pub fn stop(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Ledger::default();
        for thread in self.threads {
            let Ok(one) = thread.join() else {
                sum.errors.push("a client panicked".into());
                continue;
            };
            sum.acknowledged.extend(one.acknowledged);
            sum.errors.extend(one.errors);
            sum.longest = sum.longest.max(one.longest);
        }
        sum
    }
}

fn register(address: SocketAddr, name: &str, pause: Duration, stop: &AtomicBool) -> Ledger {
    let mut ledger = Ledger::default();
    let mut client = Client::new(address);
    let mut due = Instant::now();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        due = Instant::now().max(due + pause);
        let (email, key) = (format!("{name}n{n}@example.org"), format!("{name}n{n}"));
        let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
        let body = format!(r#"{{"name":"{name}","email":"{email}"}}"#);
        let started = Instant::now();
        match client.send("POST", "/api/v1/users", &headers, &body) {
            Ok(answer) if answer.status == 201 => ledger.acknowledged.push(email),
            Ok(answer) => ledger.errors.push(format!("{} {}", answer.status, answer.body)),
            Err(e) => ledger.errors.push(e.to_string()),
        }
        ledger.longest = ledger.longest.max(started.elapsed());
    }
    ledger
}

/// What a database has of the registrations of a [`Ledger`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged, and not there.
    pub lost: usize,
    /// There more than once.
    pub doubled: usize,
    /// There, and nobody was told so: the outcome of a failed request, at best.
    pub unacknowledged: usize,
}

impl Ledger {
    /// Looks each registration up. The table may hold no others.
    ///
    /// # Errors
    /// When the database does not answer.
    pub fn check(&self, postgres: &Postgres, database: &str) -> Result<Verdict> {
        let rows = postgres.psql(database, "SELECT email FROM users")?;
        let mut found: HashMap<&str, u32> = HashMap::new();
        for email in rows.lines() {
            *found.entry(email).or_default() += 1;
        }
        let told: HashSet<&str> = self.acknowledged.iter().map(String::as_str).collect();
        Ok(Verdict {
            lost: told.iter().filter(|email| !found.contains_key(*email)).count(),
            doubled: found.values().filter(|times| **times > 1).count(),
            unacknowledged: found.keys().filter(|email| !told.contains(*email)).count(),
        })
    }
}
