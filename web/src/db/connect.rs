//! One connection to PostgreSQL: address, credentials, TLS, time limits, and the task that
//! moves its bytes.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use diesel::result::QueryResult;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Socket};

use super::answers::{first_of, is_silence};
use super::tls;
use super::validity::Validity;
use crate::config::{Credentials, Database};
use crate::metrics::Gauge;

/// The time that the server's kernel has to answer. A first packet to an address that has just died is lost without an
/// answer, and another one may go to the new primary: it is sent at once.
const TCP_TIMEOUT: Duration = Duration::from_millis(500);
/// The attempts in a row while the kernel does not answer.
const TCP_ATTEMPTS: u32 = 4;
/// The time for TLS and password, once TCP is there. A server that has just become primary is busy with the handshakes
/// of everybody: who gives up early and comes again makes it begin anew, and keeps it busy.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(6);
/// The time for TLS and password of the watcher, which has one connection and is to notice a server that hangs.
const WATCHER_TIMEOUT: Duration = Duration::from_secs(3);
/// The connections that this process makes to one target at the same moment, as a new primary is busy with
/// handshakes.
const MAX_CONCURRENT_ATTEMPTS: usize = 3;
/// The time for a connection to migrate with: nobody waits for an answer.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(10);
/// The time after which a peer that acknowledges no sent bytes is gone.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);

/// The servers to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The primary; a session that can't write is refused.
    Primary,
    /// Any standby, to read from.
    Standby,
}

/// What a connection is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Queries that change nothing. The server ends them itself when they take too long.
    Read,
    /// Reads that look through many users, which other reads must not wait for.
    Search,
    /// Changes, which no time-out ends: it is a cancel, and a cancel while a commit waits for its standby acknowledges what
    /// was not replicated.
    Write,
}

/// The time after which the server ends a read: shortly before nobody waits for it any more, so that what is given up
/// does not go on beside what is asked again.
pub const READ_STATEMENT: Duration = Duration::from_millis(1200);

/// The state of a connection, as the task that moves its bytes knows it.
#[derive(Debug, Default)]
pub struct ConnState {
    closed: AtomicBool,
    warned: AtomicBool,
    ended: Notify,
}

/// An open connection.
pub struct Conn {
    /// Diesel's side of the connection.
    pub pg: AsyncPgConnection,
    state: Arc<ConnState>,
    work: Work,
    begun: Instant,
}

impl Conn {
    /// The moment at which it was begun to connect: where the Service led then, the connection goes.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// Tells whether the server or the network has ended the connection.
    pub fn is_closed(&self) -> bool {
        self.state.closed.load(Ordering::Acquire)
    }

    /// Tells whether the connection is set up for this work.
    pub fn is_set_up_for(&self, work: Work) -> bool {
        (self.work == Work::Write) == (work == Work::Write)
    }

    /// Sets the connection up for this work. It costs a round trip where it was used for the other one before.
    pub async fn set_up_for(&mut self, work: Work) -> QueryResult<()> {
        if self.is_set_up_for(work) {
            return Ok(());
        }
        let limit = match work {
            Work::Read | Work::Search => READ_STATEMENT.as_millis(),
            Work::Write => 0,
        };
        self.pg.batch_execute(&format!("SET statement_timeout = {limit}")).await?;
        self.work = work;
        Ok(())
    }

    /// Waits until the connection has ended.
    pub async fn closed(&self) {
        loop {
            let ended = self.state.ended.notified();
            if self.is_closed() {
                return;
            }
            ended.await;
        }
    }

    /// Tells whether the server sent a warning since this was last asked.
    ///
    /// A commit whose wait for a standby was cut short on the server is reported as done,
    /// with a warning beside it: it is not known to be safe.
    pub fn take_warning(&self) -> bool {
        self.state.warned.swap(false, Ordering::AcqRel)
    }
}

/// A connector makes connections to one target.
pub struct Connector {
    database: Database,
    target: Target,
    /// The address the name had last: the name service may be down together with the primary.
    known: Mutex<Vec<IpAddr>>,
    /// All connections end that were begun before this moment.
    valid_from: watch::Receiver<Instant>,
    /// The gauge that the expiry of the server's certificate is noted in.
    expiry: Arc<Gauge>,
}

impl Connector {
    /// Makes a connector whose connections end when `valid_from` is later than their begin; it notes in `expiry` when the
    /// server's certificate ends.
    pub fn new(
        database: Database,
        target: Target,
        valid_from: watch::Receiver<Instant>,
        expiry: Arc<Gauge>,
    ) -> Arc<Self> {
        Arc::new(Self { database, target, known: Mutex::default(), valid_from, expiry })
    }

    /// Connects for a pool, in its turn.
    ///
    /// An attempt should come to its end even when its connection is needed no more: see
    /// [`HANDSHAKE_TIMEOUT`].
    pub async fn connect(&self) -> Result<Conn> {
        static PRIMARY: Semaphore = Semaphore::const_new(MAX_CONCURRENT_ATTEMPTS);
        static STANDBY: Semaphore = Semaphore::const_new(MAX_CONCURRENT_ATTEMPTS);
        let turns = match self.target {
            Target::Primary => &PRIMARY,
            Target::Standby => &STANDBY,
        };
        let _turn = turns.acquire().await?;
        self.within(HANDSHAKE_TIMEOUT).await
    }

    /// Connects for the watcher, out of turn.
    pub async fn connect_for_watcher(&self) -> Result<Conn> {
        self.within(WATCHER_TIMEOUT).await
    }

    async fn within(&self, limit: Duration) -> Result<Conn> {
        let mut silent = 0;
        loop {
            // What leads to the old primary must end when there is another, also what is being made. What leads to the new
            // one already must not: it is busy with everybody's handshakes, and would have these again.
            let validity = Validity::from_now(&self.valid_from);
            let attempt = tokio::time::timeout(limit, self.attempt(&validity));
            let made = tokio::select! {
                made = attempt => made.with_context(|| format!("no answer in {} s", limit.as_secs()))?,
                () = validity.clone().ended() => Err(anyhow!("another server is primary now")),
            };
            match made {
                Err(e) if silent < TCP_ATTEMPTS && is_silence(&e) => silent += 1,
                made => return made,
            }
        }
    }

    async fn attempt(&self, validity: &Validity) -> Result<Conn> {
        let (host, port) = endpoint(&self.database, self.target);
        let mut config = base_config(&self.database, self.target)?;
        config.port(port);
        let RawConn { client, state } = if host.starts_with('/') {
            config.host_path(host);
            self.open(&config, validity).await?
        } else {
            let config = &config;
            first_of(&self.resolve(host, port).await?, |address| async move {
                let mut config = config.clone();
                config.host(host).hostaddr(address);
                self.open(&config, validity).await
            })
            .await?
        };
        let work = match self.target {
            Target::Primary => Work::Write,
            Target::Standby => Work::Read,
        };
        Ok(Conn { pg: AsyncPgConnection::try_from(client).await?, state, work, begun: validity.begun })
    }

    async fn open(&self, config: &tokio_postgres::Config, validity: &Validity) -> Result<RawConn> {
        open(&self.database, config, &self.expiry, Some(validity.clone())).await
    }

    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<IpAddr>> {
        let looked_up = tokio::time::timeout(Duration::from_secs(1), tokio::net::lookup_host((host, port))).await;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match looked_up {
            Ok(Ok(addresses)) => *known = addresses.map(|a| a.ip()).collect(),
            Ok(Err(e)) if known.is_empty() => return Err(e).with_context(|| format!("looking up {host}")),
            Err(e) if known.is_empty() => return Err(e).with_context(|| format!("looking up {host}")),
            _ => {}
        }
        Ok(known.clone())
    }
}

/// Connects once and for no pool, as migrations do.
pub async fn connect_once(database: &Database, target: Target) -> Result<AsyncPgConnection> {
    let (host, port) = endpoint(database, target);
    let mut config = base_config(database, target)?;
    config.host(host).port(port);
    let connect = async {
        let opened = open(database, &config, &Arc::default(), None).await?;
        anyhow::Ok(AsyncPgConnection::try_from(opened.client).await?)
    };
    let late = || format!("no answer from {host} in {} s", MIGRATION_TIMEOUT.as_secs());
    tokio::time::timeout(MIGRATION_TIMEOUT, connect).await.with_context(late)?
}

/// An open connection without Diesel, whose warnings are seen.
pub struct RawConn {
    /// The client.
    pub client: Client,
    state: Arc<ConnState>,
}

impl RawConn {
    /// Tells whether the server sent a warning, as [`Conn::take_warning`].
    pub fn take_warning(&self) -> bool {
        self.state.warned.swap(false, Ordering::AcqRel)
    }
}

/// Connects to the primary at an address that is known, once and for no pool. `answer` is the limit for the
/// first answer, that of TCP: who does not give it is not there. What follows depends on the server's load.
pub async fn connect_raw(database: &Database, address: SocketAddr, answer: Duration) -> Result<RawConn> {
    let mut config = base_config(database, Target::Primary)?;
    config.host(&database.host).hostaddr(address.ip()).port(address.port()).connect_timeout(answer);
    open(database, &config, &Arc::default(), None).await
}

async fn open(
    database: &Database,
    config: &tokio_postgres::Config,
    expiry: &Arc<Gauge>,
    validity: Option<Validity>,
) -> Result<RawConn> {
    let state = Arc::<ConnState>::default();
    let client = match tls::connector(database, expiry)? {
        None => {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(drive(connection, Arc::clone(&state), validity));
            client
        }
        Some(tls) => {
            let (client, connection) = config.connect(tls).await?;
            tokio::spawn(drive(connection, Arc::clone(&state), validity));
            client
        }
    };
    Ok(RawConn { client, state })
}

fn endpoint(database: &Database, target: Target) -> (&str, u16) {
    match (target, &database.read_host) {
        (Target::Standby, Some(host)) => (host, database.read_port),
        _ => (&database.host, database.port),
    }
}

/// The settings of every connection. To the primary they have no `statement_timeout`: see [`Work`].
fn base_config(database: &Database, target: Target) -> Result<tokio_postgres::Config> {
    let mut config = tokio_postgres::Config::new();
    match &database.credentials {
        Credentials::Folder(folder) => {
            config
                .user(secret(folder, "username")?)
                .password(secret(folder, "password")?)
                .dbname(secret(folder, "dbname")?);
        }
        Credentials::Values { user, password, dbname } => {
            config.user(user).dbname(dbname);
            if let Some(password) = password {
                config.password(password);
            }
        }
    }
    config
        .application_name("user-app")
        .connect_timeout(TCP_TIMEOUT)
        .tcp_user_timeout(TCP_USER_TIMEOUT)
        .keepalives_idle(Duration::from_secs(5))
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(2)
        .ssl_mode(if database.tls { SslMode::Require } else { SslMode::Disable });
    match target {
        Target::Primary => config
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .options("-c lock_timeout=5s -c idle_in_transaction_session_timeout=10s"),
        Target::Standby => {
            let limit = READ_STATEMENT.as_millis();
            config.options(format!("-c default_transaction_read_only=on -c statement_timeout={limit}"))
        }
    };
    Ok(config)
}

fn secret(folder: &Path, name: &str) -> Result<String> {
    let path = folder.join(name);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Moves the connection's bytes until it ends, or until another server is primary. Then the
/// socket is closed as it is: no cancel is ever sent, and a query in flight fails here and
/// is tried again under its key.
async fn drive<T>(mut connection: Connection<Socket, T>, state: Arc<ConnState>, validity: Option<Validity>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let superseded = async {
        match validity {
            Some(validity) => validity.ended().await,
            None => std::future::pending().await,
        }
    };
    let mut superseded = std::pin::pin!(superseded);
    loop {
        let message = tokio::select! {
            message = std::future::poll_fn(|cx| connection.poll_message(cx)) => message,
            () = &mut superseded => None,
        };
        match message {
            Some(Ok(AsyncMessage::Notice(notice))) if *notice.code() == SqlState::WARNING => {
                state.warned.store(true, Ordering::Release);
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => break,
        }
    }
    state.closed.store(true, Ordering::Release);
    state.ended.notify_waiters();
}
