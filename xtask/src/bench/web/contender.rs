//! Those that are measured, started alike.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use testbed::keeper::Keeper;

use super::flask::Flask;
use super::go::GoPeer;
use crate::webapp::{Database, WebApp, until_ready};

/// The ticks of `/proc/*/stat`: Linux tells every process a hundredth of a second, whatever it counts itself by.
const TICKS: f64 = 100.0;

/// One of them.
#[derive(Debug)]
pub enum Contender {
    /// Ours.
    UserApp(WebApp),
    /// The yardstick.
    Flask(Flask),
    /// The peer.
    Go(GoPeer),
}

/// A started one; ended with the value.
#[derive(Debug)]
pub struct Running {
    /// Pages and API.
    pub address: SocketAddr,
    /// From its start to its saying that it is ready.
    pub ready: Duration,
    keeper: Keeper,
}

impl Contender {
    /// Starts the contender. `failing`: the database is going to fail, so it gets the settings that are best for that.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(&self, database: Database, failing: bool, folder: &Path) -> Result<Running> {
        let address = SocketAddr::from(([127, 0, 0, 1], testbed::free_port()));
        let log = folder.join(format!("{}.log", address.port()));
        let start = Instant::now();
        let keeper = match self {
            // The others have no limit on a client's requests, and here is only one client.
            Self::UserApp(app) => {
                let settings = [("RATE_LIMIT_READS", "0"), ("RATE_LIMIT_WRITES", "0")];
                app.start(database, address, &settings, Some(&log))?
            }
            Self::Flask(flask) => flask.start(database, address, failing, &log)?,
            Self::Go(peer) => peer.start(database, address, &log)?,
        };
        until_ready(&keeper, address, Duration::from_secs(30))?;
        Ok(Running { address, ready: start.elapsed(), keeper })
    }
}

impl Running {
    /// Memory of all its processes, in bytes: what is shared between them counts once.
    pub fn memory(&self) -> u64 {
        family(self.keeper.pid).into_iter().map(proportional).sum()
    }

    /// Seconds of processor that all its processes have used.
    pub fn processor(&self) -> f64 {
        let used = |pid| ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default());
        family(self.keeper.pid).into_iter().map(used).sum::<u64>() as f64 / TICKS
    }
}

/// A process and all that it has started.
fn family(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok()).flat_map(family);
    std::iter::once(pid).chain(children).collect()
}

/// The proportional set size of a process.
fn proportional(pid: u32) -> u64 {
    pss(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default())
}

/// Ticks of processor, user's and system's, of a process: fields 14 and 15, behind the name, which may hold anything.
fn ticks(stat: &str) -> u64 {
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    behind.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn pss(rollup: &str) -> u64 {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proportional_size_is_read_in_bytes() {
        assert_eq!(pss("Rss:  5000 kB\nPss:                1234 kB\nPss_Dirty: 1 kB\n"), 1234 * 1024);
        assert_eq!(pss(""), 0);
        assert!(proportional(std::process::id()) > 100_000);
    }

    #[test]
    fn processor_time_is_the_users_and_the_systems() {
        assert_eq!(ticks("7 (a) b) S 1 7 7 0 -1 4194560 9 0 0 0 250 50 3 4 20 0 1 0 5"), 300);
        assert_eq!(ticks(""), 0);
    }
}
