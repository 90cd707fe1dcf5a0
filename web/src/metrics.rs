//! The counters for `/metrics`, in Prometheus' text format.
//!
//! | name | labels | |
//! |---|---|---|
//! | `user_app_http_requests_total` | `method`, `route`, `status` | counter |
//! | `user_app_http_request_duration_seconds` | `route` | histogram |
//! | `user_app_http_requests_in_flight` | | gauge |
//! | `user_app_db_connections` | `pool` (`primary`, `standby`), `state` (`in_use`, `idle`) | gauge |
//! | `user_app_db_pool_waiting` | `pool` | gauge: requests that wait for a connection |
//! | `user_app_db_pool_wait_seconds` | `pool` | histogram |
//! | `user_app_db_connects_total` | `pool`, `result` (`ok`, `failed`) | counter |
//! | `user_app_db_retries_total` | `kind` (`read`, `write`) | counter |
//! | `user_app_db_failovers_total` | | counter: another server became primary |
//! | `user_app_db_primary_up` | | gauge: 1 while the primary answers |
//! | `user_app_db_certificate_expiry_timestamp_seconds` | | gauge, once there was an encrypted connection |
//! | `user_app_standby_reads_total` | `result` | counter: lists and searches while the primary answers: `answered` by a standby, or led back to the primary because the standby is `behind`, its connections are `busy`, it `failed` or was not reached at once, was too `slow`, or how far it must be is `unknown` |
//! | `user_app_stale_reads_total` | | counter: reads answered from a standby while the primary did not answer |
//! | `user_app_idempotent_replays_total` | | counter: saved responses given out again |
//! | `user_app_unavailable_total` | `kind` | counter: deadlines that ended in a 503 |
//! | `user_app_reads_too_slow_total` | | counter: reads that were given up because the server ended them again and again |
//! | `user_app_rate_limited_total` | | counter |
//! | `user_app_table_rows` | `table` (`idempotency_keys`, `request_rates`) | gauge: rows, counted up to twice the limit |
//! | `user_app_table_rows_limit` | `table` | gauge: rows that are removed down to |
//! | `user_app_build_info` | `version`, `pod` | 1 |

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The upper bounds of the histograms' buckets, in seconds.
const BOUNDS: [f64; 13] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0];

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one more.
    pub fn inc(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds, or takes away with a negative number.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Sets the number.
    pub fn set(&self, n: i64) {
        self.0.store(n, Relaxed);
    }
}

/// A histogram of durations.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|b| seconds <= *b).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    fn render(&self, out: &mut String, name: &str, label: &str) {
        let mut total = 0;
        for (bound, bucket) in BOUNDS.iter().map(f64::to_string).chain(["+Inf".into()]).zip(&self.buckets) {
            total += bucket.load(Relaxed);
            let _ = writeln!(out, "{name}_bucket{{{label},le=\"{bound}\"}} {total}");
        }
        let sum = Duration::from_micros(self.sum_micros.load(Relaxed)).as_secs_f64();
        let _ = writeln!(out, "{name}_sum{{{label}}} {sum}\n{name}_count{{{label}}} {total}");
    }
}

/// The counters of a pool of connections.
#[derive(Debug, Default)]
pub struct PoolMetrics {
    /// Connections lent to requests.
    pub in_use: Gauge,
    /// Connections that wait for a request.
    pub idle: Gauge,
    /// Requests that wait for a connection.
    pub waiting: Gauge,
    /// The time that requests waited for a connection.
    pub wait: Histogram,
    /// Connections made.
    pub connects: Counter,
    /// Attempts to connect that failed.
    pub connects_failed: Counter,
}

/// The reads that a standby was to answer while there was a primary.
#[derive(Debug, Default)]
pub struct StandbyReads {
    /// Answered by a standby.
    pub answered: Counter,
    /// Led back to the primary: the standby had not replayed enough.
    pub behind: Counter,
    /// Led back: all connections to standbys were in use.
    pub busy: Counter,
    /// Led back: no standby was reached at once, as by the first read after a pause, or it broke off the read.
    pub failed: Counter,
    /// Led back: the standby ended the read because it took too long.
    pub slow: Counter,
    /// Led back: it was not known what a standby must have replayed.
    pub unknown: Counter,
}

/// The rows of a table that grows with requests.
#[derive(Debug, Default)]
pub struct TableMetrics {
    /// The rows when they were last counted.
    pub rows: Gauge,
    /// The rows that are removed down to.
    pub limit: Gauge,
}

/// The counters of the process, shared by all threads.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Connections to the primary.
    pub primary: PoolMetrics,
    /// Connections to the standbys.
    pub standby: PoolMetrics,
    /// Reads tried again.
    pub read_retries: Counter,
    /// Writes tried again.
    pub write_retries: Counter,
    /// Times another server became primary.
    pub failovers: Counter,
    /// 1 while the primary answers.
    pub primary_up: Gauge,
    /// The expiry of the certificate of the server that was connected to last, in seconds since 1970; 0 where no
    /// connection was encrypted.
    pub certificate_expiry: Arc<Gauge>,
    /// Lists and searches while there was a primary.
    pub standby_reads: StandbyReads,
    /// Reads answered from a standby while there was no primary.
    pub stale_reads: Counter,
    /// Saved responses given out again.
    pub replays: Counter,
    /// Reads whose deadline ended.
    pub reads_unavailable: Counter,
    /// Reads that asked for too much.
    pub reads_too_slow: Counter,
    /// Writes whose deadline ended.
    pub writes_unavailable: Counter,
    /// Requests refused because their client sends too many.
    pub rate_limited: Counter,
    /// Requests being answered.
    pub in_flight: Gauge,
    /// The idempotency keys.
    pub keys: TableMetrics,
    /// The clients' counts.
    pub rates: TableMetrics,
    routes: Mutex<BTreeMap<String, Route>>,
}

#[derive(Debug, Default)]
struct Route {
    requests: BTreeMap<(String, u16), u64>,
    latency: Histogram,
}

impl Metrics {
    /// Counts one answered request. `route` is the pattern, not the path: few distinct ones.
    pub fn answered(&self, route: &str, method: &str, status: u16, took: Duration) {
        let mut routes = self.routes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !routes.contains_key(route) {
            routes.insert(route.to_owned(), Route::default());
        }
        if let Some(entry) = routes.get_mut(route) {
            entry.latency.observe(took);
            match entry.requests.iter_mut().find(|((m, s), _)| m == method && *s == status) {
                Some((_, n)) => *n += 1,
                None => drop(entry.requests.insert((method.to_owned(), status), 1)),
            }
        }
    }

    /// The text that Prometheus reads.
    pub fn render(&self, version: &str, pod: &str) -> String {
        let mut out = String::with_capacity(8192);
        let head = |out: &mut String, name: &str, kind: &str| {
            let _ = writeln!(out, "# TYPE user_app_{name} {kind}");
        };
        head(&mut out, "build_info", "gauge");
        let _ = writeln!(out, "user_app_build_info{{version=\"{version}\",pod=\"{pod}\"}} 1");
        self.render_routes(&mut out);
        let pools = [("primary", &self.primary), ("standby", &self.standby)];
        head(&mut out, "db_connections", "gauge");
        for (pool, m) in pools {
            for (state, gauge) in [("in_use", &m.in_use), ("idle", &m.idle)] {
                let _ = writeln!(
                    out,
                    "user_app_db_connections{{pool=\"{pool}\",state=\"{state}\"}} {}",
                    gauge.0.load(Relaxed)
                );
            }
        }
        head(&mut out, "db_pool_waiting", "gauge");
        for (pool, m) in pools {
            let _ = writeln!(out, "user_app_db_pool_waiting{{pool=\"{pool}\"}} {}", m.waiting.0.load(Relaxed));
        }
        head(&mut out, "db_pool_wait_seconds", "histogram");
        for (pool, m) in pools {
            m.wait.render(&mut out, "user_app_db_pool_wait_seconds", &format!("pool=\"{pool}\""));
        }
        head(&mut out, "db_connects_total", "counter");
        for (pool, m) in pools {
            for (result, counter) in [("ok", &m.connects), ("failed", &m.connects_failed)] {
                let _ = writeln!(
                    out,
                    "user_app_db_connects_total{{pool=\"{pool}\",result=\"{result}\"}} {}",
                    counter.get()
                );
            }
        }
        let reads = &self.standby_reads;
        for (name, labelled) in [
            (
                "standby_reads_total",
                [
                    (r#"{result="answered"}"#, &reads.answered),
                    (r#"{result="behind"}"#, &reads.behind),
                    (r#"{result="busy"}"#, &reads.busy),
                    (r#"{result="failed"}"#, &reads.failed),
                    (r#"{result="slow"}"#, &reads.slow),
                    (r#"{result="unknown"}"#, &reads.unknown),
                ]
                .as_slice(),
            ),
            (
                "db_retries_total",
                &[(r#"{kind="read"}"#, &self.read_retries), (r#"{kind="write"}"#, &self.write_retries)],
            ),
            (
                "unavailable_total",
                &[(r#"{kind="read"}"#, &self.reads_unavailable), (r#"{kind="write"}"#, &self.writes_unavailable)],
            ),
            ("db_failovers_total", &[("", &self.failovers)]),
            ("stale_reads_total", &[("", &self.stale_reads)]),
            ("idempotent_replays_total", &[("", &self.replays)]),
            ("reads_too_slow_total", &[("", &self.reads_too_slow)]),
            ("rate_limited_total", &[("", &self.rate_limited)]),
        ] {
            head(&mut out, name, "counter");
            for (label, counter) in labelled {
                let _ = writeln!(out, "user_app_{name}{label} {}", counter.get());
            }
        }
        for (name, gauge) in [("db_primary_up", &self.primary_up), ("http_requests_in_flight", &self.in_flight)] {
            head(&mut out, name, "gauge");
            let _ = writeln!(out, "user_app_{name} {}", gauge.0.load(Relaxed));
        }
        self.render_tables(&mut out);
        let expiry = self.certificate_expiry.0.load(Relaxed);
        if expiry != 0 {
            head(&mut out, "db_certificate_expiry_timestamp_seconds", "gauge");
            let _ = writeln!(out, "user_app_db_certificate_expiry_timestamp_seconds {expiry}");
        }
        out
    }

    fn render_tables(&self, out: &mut String) {
        let tables = [("idempotency_keys", &self.keys), ("request_rates", &self.rates)];
        // Before the first count there is nothing to tell.
        if tables.iter().all(|(_, m)| m.limit.0.load(Relaxed) == 0) {
            return;
        }
        let _ = writeln!(out, "# TYPE user_app_table_rows gauge");
        for (table, m) in tables {
            let _ = writeln!(out, "user_app_table_rows{{table=\"{table}\"}} {}", m.rows.0.load(Relaxed));
        }
        let _ = writeln!(out, "# TYPE user_app_table_rows_limit gauge");
        for (table, m) in tables {
            let _ = writeln!(out, "user_app_table_rows_limit{{table=\"{table}\"}} {}", m.limit.0.load(Relaxed));
        }
    }

    fn render_routes(&self, out: &mut String) {
        let routes = self.routes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = writeln!(out, "# TYPE user_app_http_requests_total counter");
        for (route, entry) in routes.iter() {
            for ((method, status), n) in &entry.requests {
                let _ = writeln!(
                    out,
                    "user_app_http_requests_total{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}} {n}"
                );
            }
        }
        let _ = writeln!(out, "# TYPE user_app_http_request_duration_seconds histogram");
        for (route, entry) in routes.iter() {
            entry.latency.render(out, "user_app_http_request_duration_seconds", &format!("route=\"{route}\""));
        }
    }
}
