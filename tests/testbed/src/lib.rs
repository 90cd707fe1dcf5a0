//! What the web app is tested, measured and tried out on, on one machine and without a cluster:
//!
//! - [`keeper`]: programs that end with the one that started them, however that ends
//! - [`postgres`]: throw-away PostgreSQL servers, standbys and promotion
//! - [`proxy`]: a network in front of the database that is cut, slow or silent
//! - [`http`]: a client that hides nothing
//! - [`ledger`]: registrations at a steady rate, and whether each acknowledged one is there once
//! - [`users`]: made-up ones
//! - [`programs`]: what is made for tests from sources
//! - [`load`]: as many requests as are answered, or so many a second, and how long each took

pub mod http;
pub mod keeper;
pub mod ledger;
pub mod load;
pub mod postgres;
pub mod programs;
pub mod proxy;
pub mod users;

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Waits until `what` holds.
///
/// # Errors
/// When it does not within `at_most`; the error has its name.
pub fn until(name: &str, at_most: Duration, what: impl FnMut() -> bool) -> Result<()> {
    until_every(Duration::from_millis(20), name, at_most, what)
}

/// The same with a pause of one's own between two looks.
///
/// # Errors
/// As [`until`].
pub fn until_every(pause: Duration, name: &str, at_most: Duration, mut what: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + at_most;
    while !what() {
        if Instant::now() > deadline {
            bail!("not within {at_most:?}: {name}");
        }
        std::thread::sleep(pause);
    }
    Ok(())
}

/// A port that is free now and that no other caller in this process is given. Below the range from which the
/// kernel gives ports to outgoing connections, so that none of them takes it meanwhile.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 12_000 + std::process::id().wrapping_mul(97).wrapping_add(n) % 20_000;
        let port = u16::try_from(port).unwrap_or(12_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
