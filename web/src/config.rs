//! The settings, from the environment, parsed once at the start.
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `LISTEN` | `[::]:8080` | address of pages, API and health; `[::]` is all of IPv6 and IPv4 |
//! | `METRICS_LISTEN` | `[::]:9090` | address of `/metrics` |
//! | `DB_HOST` | `user-db-rw` | the primary's host, or a folder with a Unix socket |
//! | `DB_READ_HOST` | none | the standbys' host: for lists and searches, and for all reads while there is no primary |
//! | `DB_PORT`, `DB_READ_PORT` | `5432` | |
//! | `DB_CREDENTIALS_DIR` | none | folder with files `username`, `password`, `dbname`, `ca.crt`, read again at every connect: a rotated secret needs no restart |
//! | `DB_USER`, `DB_PASSWORD`, `DB_NAME` | `app`, none, `app` | where there is no such folder |
//! | `DB_SSLMODE` | `verify-full` | or `disable` |
//! | `DB_POOL`, `DB_READ_POOL` | `8`, `4` | connections of this process at most |
//! | `WORKERS` | processors, 4 at most | threads that serve requests |
//! | `REQUEST_DEADLINE_MS` | `15000` | after that a request is answered 503 |
//! | `DRAIN_SECONDS` | `5` | from "not ready" to refusing connections, at the end |
//! | `RATE_LIMIT_WRITES`, `RATE_LIMIT_READS` | `3000`, `30000` | requests of one client in ten seconds, over all pods; 0: no limit |
//! | `IDEMPOTENCY_KEYS` | `500000` | keys that are kept at most, some 400 bytes each; the oldest go first |
//! | `IDEMPOTENCY_KEYS_PER_CLIENT` | `100000` | keys of one client that are kept at most |
//! | `SWEEP_SECONDS` | `60` | from one removal of aged keys and counts to the next |
//! | `PROXY_LISTEN` | none | address for the proxies in front; what they tell of a client is believed there alone |
//! | `PUBLIC_URL` | none | what users type, with `PROXY_LISTEN`; with https cookies are `Secure` there, and http is led to it |
//! | `TRUSTED_PROXIES` | any one | the proxies' networks, e.g. `10.1.0.0/16`, with commas between them |
//! | `POD_NAME` | host name | shown on the pages |
//! | `LOG` | `info` | `error`, `warn`, `info`, `debug` or `trace` |

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::front::Front;

/// The process's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address of pages, API and health.
    pub listen: String,
    /// The address of `/metrics`.
    pub metrics_listen: String,
    /// The database.
    pub database: Database,
    /// The threads that serve requests.
    pub workers: usize,
    /// The time that a request may take before it is answered 503.
    pub deadline: Duration,
    /// The time from "not ready" to refusing connections.
    pub drain: Duration,
    /// The limits by client.
    pub rates: Rates,
    /// The idempotency keys that are kept.
    pub keys: Keys,
    /// The time from one removal of aged keys and counts to the next.
    pub sweep_every: Duration,
    /// Where the proxies in front come to, if there are any.
    pub front: Option<Front>,
    /// This pod's name.
    pub pod: String,
}

/// The way to the database.
#[derive(Debug, Clone)]
pub struct Database {
    /// The primary's host.
    pub host: String,
    /// The primary's port.
    pub port: u16,
    /// The standbys' host, if there are any to read from.
    pub read_host: Option<String>,
    /// The standbys' port.
    pub read_port: u16,
    /// The source of name, password and certificate authority.
    pub credentials: Credentials,
    /// Whether connections are encrypted, and then always verified.
    pub tls: bool,
    /// The connections to the primary, all threads together.
    pub pool: usize,
    /// The connections to the standbys, all threads together.
    pub read_pool: usize,
}

/// The source of the secrets.
#[derive(Clone)]
pub enum Credentials {
    /// A folder with a file each, as Kubernetes mounts a Secret.
    Folder(PathBuf),
    /// The values themselves.
    Values {
        /// The role.
        user: String,
        /// The role's password, if it needs one.
        password: Option<String>,
        /// The database.
        dbname: String,
    },
}

// Written by hand: a derived one would print the password.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) => f.debug_tuple("Folder").field(path).finish(),
            Self::Values { user, dbname, .. } => write!(f, "Values({user}, {dbname})"),
        }
    }
}

/// The requests that one client may send in a window, over all pods. Zero is no limit.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// Requests that change something.
    pub writes: u64,
    /// All other requests.
    pub reads: u64,
}

/// The idempotency keys that are kept at most; the oldest go first, and all after a day.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    /// The keys of all clients.
    pub all: i64,
    /// The keys of one client.
    pub per_client: i64,
}

impl Config {
    /// Reads the environment; the error names the variable.
    pub fn from_env() -> Result<Self> {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = number("WORKERS", cpus.min(4))?;
        if workers == 0 {
            bail!("WORKERS must be at least 1");
        }
        Ok(Self {
            listen: text("LISTEN", "[::]:8080"),
            metrics_listen: text("METRICS_LISTEN", "[::]:9090"),
            database: Database::from_env()?,
            workers,
            deadline: Duration::from_millis(number("REQUEST_DEADLINE_MS", 15_000)?),
            drain: Duration::from_secs(number("DRAIN_SECONDS", 5)?),
            rates: Rates { writes: number("RATE_LIMIT_WRITES", 3_000)?, reads: number("RATE_LIMIT_READS", 30_000)? },
            keys: Keys {
                all: at_least_one("IDEMPOTENCY_KEYS", 500_000)?,
                per_client: at_least_one("IDEMPOTENCY_KEYS_PER_CLIENT", 100_000)?,
            },
            sweep_every: Duration::from_secs(number("SWEEP_SECONDS", 60)?),
            front: optional("PROXY_LISTEN")
                .map(|listen| Front::parse(listen, &text("PUBLIC_URL", ""), &text("TRUSTED_PROXIES", "")))
                .transpose()?,
            pod: optional("POD_NAME").or_else(|| optional("HOSTNAME")).unwrap_or_else(|| "local".into()),
        })
    }
}

impl Database {
    /// Reads the environment; the error names the variable.
    pub fn from_env() -> Result<Self> {
        let credentials = match optional("DB_CREDENTIALS_DIR") {
            Some(folder) => Credentials::Folder(folder.into()),
            None => Credentials::Values {
                user: text("DB_USER", "app"),
                password: optional("DB_PASSWORD"),
                dbname: text("DB_NAME", "app"),
            },
        };
        let tls = match text("DB_SSLMODE", "verify-full").as_str() {
            "verify-full" => true,
            "disable" => false,
            other => bail!("DB_SSLMODE is {other:?}: it may be verify-full or disable"),
        };
        if tls && matches!(credentials, Credentials::Values { .. }) {
            bail!("DB_SSLMODE=verify-full needs DB_CREDENTIALS_DIR with the authority's certificate in ca.crt");
        }
        Ok(Self {
            host: text("DB_HOST", "user-db-rw"),
            port: number("DB_PORT", 5432)?,
            read_host: optional("DB_READ_HOST"),
            read_port: number("DB_READ_PORT", 5432)?,
            credentials,
            tls,
            pool: number("DB_POOL", 8)?,
            read_pool: number("DB_READ_POOL", 4)?,
        })
    }
}

fn optional(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

pub(crate) fn text(name: &str, default: &str) -> String {
    optional(name).unwrap_or_else(|| default.to_owned())
}

fn at_least_one(name: &str, default: u32) -> Result<i64> {
    match number(name, default)? {
        0 => bail!("{name} must be at least 1"),
        given => Ok(given.into()),
    }
}

pub(crate) fn number<T: FromStr>(name: &str, default: T) -> Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match optional(name) {
        None => Ok(default),
        Some(value) => value.parse().with_context(|| format!("{name} is {value:?}, which can't be read")),
    }
}
