//! One connection to PostgreSQL: address, credentials, TLS, time limits, and the task that
//! moves its bytes.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use diesel_async::AsyncPgConnection;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{Credentials, Database};

/// One attempt to connect, all of it: name, TCP, TLS, password.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A second attempt starts beside the first after this long: a first packet to an address
/// that has just died is lost without an answer, and a new one may go to the new primary.
const HEDGE_AFTER: Duration = Duration::from_millis(400);
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
}

impl Connector {
    /// For connections that end when `generation` changes.
    pub fn new(database: Database, target: Target, generation: watch::Receiver<u64>) -> Arc<Self> {
        Arc::new(Self { database, target, known: Mutex::default(), generation })
    }

    /// Connects, in 2.4 seconds at most.
    pub async fn connect(self: &Arc<Self>) -> Result<Conn> {
        let mut attempts = JoinSet::new();
        let attempt = || {
            let this = Arc::clone(self);
            async move { tokio::time::timeout(CONNECT_TIMEOUT, this.attempt()).await.context("no answer in 2 s")? }
        };
        attempts.spawn(attempt());
        let mut hedged = false;
        let mut failure = None;
        loop {
            tokio::select! {
                done = attempts.join_next() => match done {
                    None => return Err(failure.unwrap_or_else(|| anyhow!("no attempt was made"))),
                    Some(Ok(Ok(conn))) => return Ok(conn),
                    Some(Ok(Err(e))) => failure = Some(e),
                    Some(Err(e)) => failure = Some(e.into()),
                },
                () = tokio::time::sleep(HEDGE_AFTER), if !hedged => {
                    hedged = true;
                    attempts.spawn(attempt());
                }
            }
        }
    }

    async fn attempt(&self) -> Result<Conn> {
        // Taken before connecting: a switch of primaries meanwhile must end this one too.
        let mut generation = self.generation.clone();
        generation.mark_unchanged();
        let config = self.settings().await?;
        let life = Arc::new(Life::default());
        let client = match roots(&self.database)? {
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                tokio::spawn(drive(connection, Arc::clone(&life), Some(generation)));
                client
            }
            Some(tls) => {
                let (client, connection) = config.connect(tls).await?;
                tokio::spawn(drive(connection, Arc::clone(&life), Some(generation)));
                client
            }
        };
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

/// Connects once and for no pool, as migrations do.
pub async fn plain(database: &Database, target: Target) -> Result<AsyncPgConnection> {
    let (host, port) = endpoint(database, target);
    let mut config = base(database, target)?;
    config.host(host).port(port);
    let connect = async { anyhow::Ok(AsyncPgConnection::try_from(open(database, &config).await?.client).await?) };
    tokio::time::timeout(CONNECT_TIMEOUT, connect).await.with_context(|| format!("no answer from {host} in 2 s"))?
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
    open(database, &config).await
}

async fn open(database: &Database, config: &tokio_postgres::Config) -> Result<Watched> {
    let life = Arc::<Life>::default();
    let client = match roots(database)? {
        None => {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(drive(connection, Arc::clone(&life), None));
            client
        }
        Some(tls) => {
            let (client, connection) = config.connect(tls).await?;
            tokio::spawn(drive(connection, Arc::clone(&life), None));
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
        .connect_timeout(CONNECT_TIMEOUT)
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

/// The authority that the server's certificate must come from; it must also carry the
/// host's name, as the operator's certificates carry those of its Services.
fn roots(database: &Database) -> Result<Option<MakeRustlsConnect>> {
    let Credentials::Folder(folder) = &database.credentials else { return Ok(None) };
    if !database.tls {
        return Ok(None);
    }
    let path = folder.join("ca.crt");
    let pem = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut store = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        store.add(certificate.with_context(|| format!("{} is not PEM", path.display()))?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(Some(MakeRustlsConnect::new(config)))
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
