//! Registrations at a steady rate, with a ledger of what was answered.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::http::Client;
use super::postgres::Postgres;

/// Clients that register one user after the other.
pub struct Load {
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

impl Load {
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
            let one = thread.join().unwrap();
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

impl Ledger {
    /// No error, and each acknowledged user is in the database exactly once.
    pub fn holds(&self, postgres: &Postgres, database: &str) {
        assert!(self.errors.is_empty(), "{} errors, such as {}", self.errors.len(), self.errors[0]);
        let rows = postgres.psql(database, "SELECT email FROM users");
        let mut found: HashMap<&str, u32> = HashMap::new();
        for email in rows.lines() {
            *found.entry(email).or_default() += 1;
        }
        let lost: Vec<_> = self.acknowledged.iter().filter(|e| !found.contains_key(e.as_str())).collect();
        assert!(lost.is_empty(), "{} acknowledged users are lost, such as {}", lost.len(), lost[0]);
        assert!(found.values().all(|n| *n == 1), "a user is there twice");
        assert_eq!(found.len(), self.acknowledged.len(), "users that nobody was told of");
    }
}
