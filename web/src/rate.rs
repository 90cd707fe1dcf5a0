//! The rate limits: how much one client may ask for, counted over all pods.
//!
//! No request waits for the count: each pod counts by itself and adds what it counted to the
//! database's sum twice a second, in one statement for all clients. So the limit is exceeded
//! by at most what arrives between two exchanges. While the database is away each pod holds
//! the limit alone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use diesel::deserialize::QueryableByName;
use diesel::result::QueryResult;
use diesel::sql_types::{Array, BigInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::config::Rates;
use crate::db::{Db, Operation};

/// The length of a window, in seconds.
const WINDOW: u64 = 10;
/// The pause between two exchanges with the database.
pub const EXCHANGE: Duration = Duration::from_millis(500);
/// The clients that are counted at most, a bound on memory: more clients than this in one window are not told apart any
/// more.
const MAX_CLIENTS: usize = 20_000;
/// The rows that the table of counts may have: those of a hundred seconds with as many clients as are counted, half of
/// them for longer than a minute.
pub const MAX_ROWS: i64 = 200_000;

/// A client and the sort of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Client {
    writes: bool,
    address: IpAddr,
}

#[derive(Debug, Default)]
struct Count {
    /// The count over all pods, when last heard; it includes this pod's up to then.
    known: u64,
    /// This pod's count since then.
    unsent: u64,
}

#[derive(Debug, Default)]
struct Window {
    start: u64,
    clients: HashMap<Client, Count>,
}

/// The limiter, which counts requests by client.
#[derive(Debug)]
pub struct Limiter {
    rates: Rates,
    window: Mutex<Window>,
}

impl Limiter {
    /// Makes a limiter with these limits.
    pub fn new(rates: Rates) -> Self {
        Self { rates, window: Mutex::default() }
    }

    fn limit(&self, writes: bool) -> u64 {
        if writes { self.rates.writes } else { self.rates.reads }
    }

    /// Counts a request. `Err` with the seconds to wait when it is one too many.
    pub fn admit(&self, address: IpAddr, writes: bool) -> Result<(), u64> {
        self.admit_at(address, writes, now())
    }

    fn admit_at(&self, address: IpAddr, writes: bool, now: u64) -> Result<(), u64> {
        let limit = self.limit(writes);
        if limit == 0 {
            return Ok(());
        }
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let start = now - now % WINDOW;
        if window.start != start {
            *window = Window { start, clients: HashMap::new() };
        }
        let mut client = Client { writes, address: network(address) };
        if window.clients.len() >= MAX_CLIENTS && !window.clients.contains_key(&client) {
            client.address = IpAddr::from([0, 0, 0, 0]);
        }
        let count = window.clients.entry(client).or_default();
        if count.known + count.unsent >= limit {
            return Err(start + WINDOW - now);
        }
        count.unsent += 1;
        Ok(())
    }

    /// Adds this pod's counts to the database's and learns those of the others.
    pub async fn exchange(&self, db: &Db) {
        let (start, counts) = self.take_unsent();
        if counts.is_empty() {
            return;
        }
        let sent = Exchange { start, counts };
        // Not reached: what was taken stays in `known`, so this pod holds the limit alone.
        if let Some(sums) = db.write_once(sent).await {
            self.learn(start, &sums);
        }
    }

    /// Takes the counts that the database has not been told, of clients that came near enough to their limit to
    /// matter: a site at rest writes nothing.
    fn take_unsent(&self) -> (u64, Vec<(Client, u64)>) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = Vec::new();
        for (client, count) in &mut window.clients {
            if count.unsent > self.limit(client.writes) / 50 {
                counts.push((*client, count.unsent));
                count.known += count.unsent;
                count.unsent = 0;
            }
        }
        // In one order on all pods, so that two of them can't block each other.
        counts.sort_unstable();
        (window.start, counts)
    }

    fn learn(&self, start: u64, sums: &[Sum]) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.start != start {
            return;
        }
        for sum in sums {
            let Some(count) = sum.client().and_then(|client| window.clients.get_mut(&client)) else { continue };
            count.known = count.known.max(u64::try_from(sum.requests).unwrap_or_default());
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The network that counts as one client: a household or machine has a whole IPv6 network of 64 bits.
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        },
    }
}

#[derive(Debug, Clone)]
struct Exchange {
    start: u64,
    counts: Vec<(Client, u64)>,
}

#[derive(Debug, QueryableByName)]
struct Sum {
    #[diesel(sql_type = Text)]
    client: String,
    #[diesel(sql_type = BigInt)]
    requests: i64,
}

impl Sum {
    fn client(&self) -> Option<Client> {
        let (kind, address) = self.client.split_once(' ')?;
        Some(Client { writes: kind == "w", address: address.parse().ok()? })
    }
}

impl Operation for Exchange {
    type Out = Vec<Sum>;

    async fn run(&self, conn: &mut AsyncPgConnection) -> QueryResult<Vec<Sum>> {
        let name = |c: &Client| format!("{} {}", if c.writes { 'w' } else { 'r' }, c.address);
        let clients: Vec<String> = self.counts.iter().map(|(client, _)| name(client)).collect();
        let counts: Vec<i64> = self.counts.iter().map(|(_, n)| i64::try_from(*n).unwrap_or(i64::MAX)).collect();
        diesel::sql_query(
            "INSERT INTO request_rates (client, window_start, requests) \
             SELECT client, to_timestamp($3), requests FROM unnest($1, $2) AS sent (client, requests) \
             ON CONFLICT (client, window_start) DO UPDATE SET requests = request_rates.requests + excluded.requests \
             RETURNING client, requests",
        )
        .bind::<Array<Text>, _>(clients)
        .bind::<Array<BigInt>, _>(counts)
        .bind::<BigInt, _>(i64::try_from(self.start).unwrap_or(i64::MAX))
        .load(conn)
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(writes: u64) -> Limiter {
        Limiter::new(Rates { writes, reads: 0 })
    }

    #[test]
    fn each_client_has_its_own_limit_in_each_window() {
        let limiter = limiter(3);
        let (one, two) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        for _ in 0..3 {
            assert_eq!(limiter.admit_at(one, true, 1_003), Ok(()));
        }
        assert_eq!(limiter.admit_at(one, true, 1_003), Err(7));
        assert_eq!(limiter.admit_at(two, true, 1_003), Ok(()));
        assert_eq!(limiter.admit_at(one, false, 1_003), Ok(()), "reads have no limit here");
        assert_eq!(limiter.admit_at(one, true, 1_010), Ok(()), "a new window");
    }

    #[test]
    fn what_others_counted_is_counted_too() {
        let limiter = limiter(10);
        let one = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(limiter.admit_at(one, true, 1_000), Ok(()));
        let (start, counts) = limiter.take_unsent();
        assert_eq!((start, counts.len()), (1_000, 1));
        limiter.learn(start, &[Sum { client: "w 192.0.2.1".into(), requests: 9 }]);
        assert_eq!(limiter.admit_at(one, true, 1_001), Ok(()));
        assert_eq!(limiter.admit_at(one, true, 1_001), Err(9));
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let limiter = limiter(1);
        assert_eq!(limiter.admit_at("2001:db8::1".parse().unwrap(), true, 0), Ok(()));
        assert_eq!(limiter.admit_at("2001:db8::2".parse().unwrap(), true, 0), Err(10));
        assert_eq!(limiter.admit_at("2001:db8:0:1::1".parse().unwrap(), true, 0), Ok(()));
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), IpAddr::from([192, 0, 2, 1]));
    }
}
