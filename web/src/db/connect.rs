//! One connection to PostgreSQL: address, credentials, TLS, time limits, and the task that
//! moves its bytes.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use diesel_async::AsyncPgConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Socket};

use super::tls;
use crate::config::{Credentials, Database};
use crate::metrics::Gauge;

/// For the server's kernel to answer. A first packet to an address that has just died is lost without an answer,
/// and another one may go to the new primary: it is sent at once.
const TCP_TIMEOUT: Duration = Duration::from_millis(500);
/// For as long as the kernel does not answer, so many times in a row.
const TCP_ATTEMPTS: u32 = 4;
/// For TLS and password, once TCP is there. A server that has just become primary is busy with the handshakes of
/// everybody: who gives up early and comes again makes it begin anew, and keeps it busy.
const PATIENCE: Duration = Duration::from_secs(6);
/// The same for the watcher, which has one connection and is to notice a server that hangs.
const LOOK: Duration = Duration::from_secs(3);
/// Connections that this process makes to one target at the same moment, for the same reason.
const AT_ONCE: usize = 3;
/// For a connection to migrate with: it may take what it takes.
const PLAIN: Duration = Duration::from_secs(10);
/// Sent bytes without an acknowledgement for this long: the peer is gone.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);

/// Which servers to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The primary; a session that can't write is refused.
    Primary,
    /// Any standby, to read from.
    Standby,
}

/// What the task behind a connection knows about it.
#[derive(Debug, Default)]
pub struct Life {
    closed: AtomicBool,
    warned: AtomicBool,
    ended: Notify,
}

/// An open connection.
pub struct Conn {
    /// Diesel's side of it.
    pub pg: AsyncPgConnection,
    life: Arc<Life>,
}

impl Conn {
    /// Whether the server or the network has ended it.
    pub fn is_closed(&self) -> bool {
        self.life.closed.load(Ordering::Acquire)
    }

    /// Waits until it has ended.
    pub async fn closed(&self) {
        loop {
            let ended = self.life.ended.notified();
            if self.is_closed() {
                return;
            }
            ended.await;
        }
    }

    /// Whether the server sent a warning since this was last asked.
    ///
    /// A commit whose wait for a standby was cut short on the server is reported as done,
    /// with a warning beside it: it is not known to be safe.
    pub fn take_warning(&self) -> bool {
        self.life.warned.swap(false, Ordering::AcqRel)
    }
}

/// Makes connections to one target.
pub struct Connector {
    database: Database,
    target: Target,
    /// The address the name had last: the name service may be down together with the primary.
    known: Mutex<Vec<IpAddr>>,
    /// A new value ends all connections made before it.
    generation: watch::Receiver<u64>,
    /// Where the expiry of the server's certificate is noted.
    expiry: Arc<Gauge>,
}

impl Connector {
    /// For connections that end when `generation` changes; notes in `expiry` when the server's certificate ends.
    pub fn new(database: Database, target: Target, generation: watch::Receiver<u64>, expiry: Arc<Gauge>) -> Arc<Self> {
        Arc::new(Self { database, target, known: Mutex::default(), generation, expiry })
    }

    /// Connects for a pool, in its turn.
    ///
    /// Whoever needs the connection should let this come to its end even when it needs it no more: see
    /// [`PATIENCE`].
    pub async fn connect(&self) -> Result<Conn> {
        static PRIMARY: Semaphore = Semaphore::const_new(AT_ONCE);
        static STANDBY: Semaphore = Semaphore::const_new(AT_ONCE);
        let turns = match self.target {
            Target::Primary => &PRIMARY,
            Target::Standby => &STANDBY,
        };
        let _turn = turns.acquire().await?;
        self.within(PATIENCE).await
    }

    /// Connects for the watcher, out of turn.
    pub async fn look(&self) -> Result<Conn> {
        self.within(LOOK).await
    }

    async fn within(&self, limit: Duration) -> Result<Conn> {
        let mut silent = 0;
        loop {
            // What is made before a switch of primaries must end with it, and what is being made too.
            let mut generation = self.generation.clone();
            generation.mark_unchanged();
            let attempt = tokio::time::timeout(limit, self.attempt(generation.clone()));
            let made = tokio::select! {
                made = attempt => made.with_context(|| format!("no answer in {} s", limit.as_secs()))?,
                // An error means that the sender is gone: the process ends.
                _ = generation.changed() => Err(anyhow!("another server is primary now")),
            };
            match made {
                Err(e) if silent < TCP_ATTEMPTS && is_silence(&e) => silent += 1,
                made => return made,
            }
        }
    }

    async fn attempt(&self, generation: watch::Receiver<u64>) -> Result<Conn> {
        let config = self.settings().await?;
        let Watched { client, life } = open(&self.database, &config, &self.expiry, Some(generation)).await?;
        Ok(Conn { pg: AsyncPgConnection::try_from(client).await?, life })
    }

    async fn settings(&self) -> Result<tokio_postgres::Config> {
        let (host, port) = endpoint(&self.database, self.target);
        let mut config = base(&self.database, self.target)?;
        config.port(port);
        if host.starts_with('/') {
            config.host_path(host);
            return Ok(config);
        }
        for address in self.resolve(host, port).await? {
            config.host(host).hostaddr(address);
        }
        Ok(config)
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

/// Whether no answer came to TCP's first packet.
fn is_silence(error: &anyhow::Error) -> bool {
    let timed_out = |e: &std::io::Error| e.kind() == std::io::ErrorKind::TimedOut;
    error.chain().filter_map(|cause| cause.downcast_ref()).any(timed_out)
}

/// Connects once and for no pool, as migrations do.
pub async fn plain(database: &Database, target: Target) -> Result<AsyncPgConnection> {
    let (host, port) = endpoint(database, target);
    let mut config = base(database, target)?;
    config.host(host).port(port);
    let connect = async {
        let opened = open(database, &config, &Arc::default(), None).await?;
        anyhow::Ok(AsyncPgConnection::try_from(opened.client).await?)
    };
    let late = || format!("no answer from {host} in {} s", PLAIN.as_secs());
    tokio::time::timeout(PLAIN, connect).await.with_context(late)?
}

/// An open connection without Diesel.
pub struct Watched {
    /// The client.
    pub client: Client,
    life: Arc<Life>,
}

impl Watched {
    /// As [`Conn::take_warning`].
    pub fn take_warning(&self) -> bool {
        self.life.warned.swap(false, Ordering::AcqRel)
    }
}

/// Connects to the primary at an address that is known, once and for no pool. `answer` is the limit for the
/// first answer, that of TCP: who does not give it is not there. What follows depends on the server's load.
pub async fn watched(database: &Database, address: SocketAddr, answer: Duration) -> Result<Watched> {
    let mut config = base(database, Target::Primary)?;
    config.host(&database.host).hostaddr(address.ip()).port(address.port()).connect_timeout(answer);
    open(database, &config, &Arc::default(), None).await
}

async fn open(
    database: &Database,
    config: &tokio_postgres::Config,
    expiry: &Arc<Gauge>,
    generation: Option<watch::Receiver<u64>>,
) -> Result<Watched> {
    let life = Arc::<Life>::default();
    let client = match tls::connector(database, expiry)? {
        None => {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(drive(connection, Arc::clone(&life), generation));
            client
        }
        Some(tls) => {
            let (client, connection) = config.connect(tls).await?;
            tokio::spawn(drive(connection, Arc::clone(&life), generation));
            client
        }
    };
    Ok(Watched { client, life })
}

fn endpoint(database: &Database, target: Target) -> (&str, u16) {
    match (target, &database.read_host) {
        (Target::Standby, Some(host)) => (host, database.read_port),
        _ => (&database.host, database.port),
    }
}

/// No `statement_timeout` where writes go: it is a cancel, and a cancel while a commit waits
/// for its standby acknowledges what was not replicated.
fn base(database: &Database, target: Target) -> Result<tokio_postgres::Config> {
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
        Target::Standby => config.options("-c default_transaction_read_only=on -c statement_timeout=5s"),
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
async fn drive<T>(mut connection: Connection<Socket, T>, life: Arc<Life>, generation: Option<watch::Receiver<u64>>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let superseded = async {
        match generation {
            // An error means that the sender is gone: the process ends.
            Some(mut generation) => drop(generation.changed().await),
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
                life.warned.store(true, Ordering::Release);
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => break,
        }
    }
    life.closed.store(true, Ordering::Release);
    life.ended.notify_waiters();
}
