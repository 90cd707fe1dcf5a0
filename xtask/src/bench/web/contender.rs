//! The two that are measured, started alike.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use testbed::keeper::Keeper;

use super::flask::Flask;
use crate::webapp::{Database, WebApp, until_ready};

/// One of the two.
#[derive(Debug)]
pub enum Contender {
    /// Ours.
    UserApp(WebApp),
    /// The yardstick.
    Flask(Flask),
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
            // The other has no limit on a client's requests, and here is only one client.
            Self::UserApp(app) => {
                let settings = [("RATE_LIMIT_READS", "0"), ("RATE_LIMIT_WRITES", "0")];
                app.start(database, address, &settings, Some(&log))?
            }
            Self::Flask(flask) => flask.start(database, address, failing, &log)?,
        };
        until_ready(&keeper, address, Duration::from_secs(30))?;
        Ok(Running { address, ready: start.elapsed(), keeper })
    }
}

impl Running {
    /// Memory of all its processes, in bytes: what is shared between them counts once.
    pub fn memory(&self) -> u64 {
        proportional(self.keeper.pid)
    }
}

/// The proportional set size of a process and of all that it has started.
fn proportional(pid: u32) -> u64 {
    let folder = format!("/proc/{pid}");
    let rollup = std::fs::read_to_string(format!("{folder}/smaps_rollup")).unwrap_or_default();
    let children = std::fs::read_to_string(format!("{folder}/task/{pid}/children")).unwrap_or_default();
    pss(&rollup) + children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(proportional).sum::<u64>()
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
}
