//! `user-app probe`: sends the writes of a failover drill from inside the cluster.
//!
//! The prober decides nothing. `stackctl` connects through a port-forward and hands out writes, each with its key
//! and the time at which it is due, after it has recorded them; the prober sends each one once, at that
//! time, whatever became of those before it, and replies with its outcome. Outcomes are kept until they are
//! confirmed: a broken connection loses none, and the next one goes on where it broke.
//!
//! The messages are those of [`stackctl_protocol::probe`], lines of JSON both ways: [`Order`]s in and [`Reply`]s out.

mod http;
mod sql;

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use stackctl_protocol::probe::{Order, Outcome, PORT, Reply, Stream, Write};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    sync::{Notify, watch},
    time::Instant,
};

use crate::config::Database;

/// The address that the prober listens on: only a port-forward reaches the loopback address of a pod.
const LISTEN: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, PORT);
/// The time that a write may take before its answer is given up. The app's own deadline is shorter.
const PATIENCE: Duration = Duration::from_secs(25);
/// The time after which a prober that nobody talks to ends: it must not outlive a `stackctl` that crashed.
const ABANDONED: Duration = Duration::from_secs(300);

/// For how long names are looked up, and the pause between two attempts.
const LOOK_UP: Duration = Duration::from_secs(30);
const LOOK_UP_PAUSE: Duration = Duration::from_millis(500);

/// Runs the prober until it is killed or abandoned.
pub async fn probe(database: &Database, web: &str) -> Result<()> {
    let address = format!("{}:{}", LISTEN.0, LISTEN.1);
    let listener = TcpListener::bind(LISTEN).await.with_context(|| format!("listening on {address}"))?;
    let clients = Clients { sql: sql::Pool::new(database).await?, http: http::Web::new(web).await? };
    let prober = Arc::new(Prober::new(clients));
    tracing::info!(address, "ready");
    // The newest connection counts: an old one may hang in a broken port-forward.
    let mut current: Option<tokio::task::JoinHandle<()>> = None;
    loop {
        let accepted = match tokio::time::timeout(ABANDONED, listener.accept()).await {
            Ok(accepted) => accepted.context("accepting a connection")?.0,
            Err(_) if current.as_ref().is_some_and(|task| !task.is_finished()) => continue,
            Err(_) => return Ok(()),
        };
        if let Some(old) = current.take() {
            old.abort();
        }
        let prober = Arc::clone(&prober);
        current = Some(tokio::spawn(async move {
            if let Err(e) = prober.converse(accepted).await {
                tracing::info!(reason = format!("{e:#}"), "the conversation ended");
            }
        }));
    }
}

/// The address of a name. It is asked for again for a while: just after an outage of the cluster names are not answered.
async fn address_of(name: impl ToSocketAddrs + Copy) -> Result<SocketAddr> {
    look_up(|| async move { tokio::net::lookup_host(name).await.map(|mut found| found.next()) }, LOOK_UP).await
}

async fn look_up<F>(look: impl Fn() -> F, patience: Duration) -> Result<SocketAddr>
where
    F: Future<Output = std::io::Result<Option<SocketAddr>>>,
{
    let given_up = Instant::now() + patience;
    loop {
        let error = match look().await {
            Ok(Some(address)) => return Ok(address),
            Ok(None) => anyhow::anyhow!("it has no address"),
            Err(error) => error.into(),
        };
        if Instant::now() > given_up {
            return Err(error);
        }
        tokio::time::sleep(LOOK_UP_PAUSE).await;
    }
}

/// The ways to the database.
struct Clients {
    sql: Arc<sql::Pool>,
    http: Arc<http::Web>,
}

/// The state of the process, over all connections.
struct Prober {
    began: Instant,
    process: u64,
    /// The last key that has been taken.
    last_key: AtomicU64,
    clients: Clients,
    outbox: Mutex<Outbox>,
    /// There is a new outcome.
    news: Notify,
    stopped: watch::Sender<bool>,
}

/// The outcomes that are not confirmed, by their numbers.
#[derive(Default)]
struct Outbox {
    last: u64,
    kept: VecDeque<(u64, Reply)>,
}

impl Prober {
    fn new(clients: Clients) -> Self {
        // The time of its start tells a process from its successor.
        let process = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |d| d.as_micros());
        Self {
            began: Instant::now(),
            process: u64::try_from(process).unwrap_or(1),
            last_key: AtomicU64::new(0),
            clients,
            outbox: Mutex::default(),
            news: Notify::new(),
            stopped: watch::channel(false).0,
        }
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Takes orders and sends replies over one connection, until it breaks.
    async fn converse(self: &Arc<Self>, socket: TcpStream) -> Result<()> {
        socket.set_nodelay(true)?;
        let (read, mut write) = socket.into_split();
        let mut lines = BufReader::new(read).lines();
        let mut run: Option<Arc<str>> = None;
        // The last outcome of the outbox that has gone into this connection.
        let mut sent = 0;
        loop {
            let mut replies = Vec::new();
            tokio::select! {
                line = lines.next_line() => {
                    let Some(line) = line? else { return Ok(()) };
                    match serde_json::from_str(&line).with_context(|| format!("an order: {line}"))? {
                        Order::Hello { run: name } => {
                            run = Some(name.into());
                            replies.push(Reply::Hello {
                                process: self.process,
                                last_key: self.last_key.load(Ordering::Acquire),
                            });
                        }
                        Order::Clock { question } => replies.push(Reply::Clock { question, now: self.now() }),
                        Order::Send { writes } => {
                            let run = run.clone().context("writes before a hello")?;
                            for write in writes {
                                if self.last_key.fetch_max(write.key, Ordering::AcqRel) < write.key {
                                    tokio::spawn(Arc::clone(self).send(write, Arc::clone(&run)));
                                }
                            }
                        }
                        Order::Confirm { up_to } => {
                            let mut outbox = self.outbox();
                            while outbox.kept.front().is_some_and(|(number, _)| *number <= up_to) {
                                outbox.kept.pop_front();
                            }
                        }
                        Order::Stop => drop(self.stopped.send_replace(true)),
                    }
                }
                () = self.news.notified() => {}
            }
            if run.is_some() {
                let outbox = self.outbox();
                replies.extend(outbox.kept.iter().filter(|(number, _)| *number > sent).map(|(_, reply)| reply.clone()));
                sent = outbox.last;
            }
            let mut text = String::new();
            for reply in &replies {
                text.push_str(&serde_json::to_string(reply)?);
                text.push('\n');
            }
            write.write_all(text.as_bytes()).await?;
        }
    }

    /// Sends a write when it is due, and puts its outcome into the outbox.
    async fn send(self: Arc<Self>, write: Write, run: Arc<str>) {
        let due = self.began + Duration::from_micros(write.due);
        let mut stopped = self.stopped.subscribe();
        let go = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => false,
            () = tokio::time::sleep_until(due) => true,
        };
        let sent = go.then(|| self.now());
        let outcome = if go {
            let attempt = async {
                match write.stream {
                    Stream::Sql => self.clients.sql.write(&run, write.key).await,
                    Stream::Http => self.clients.http.write(&run, write.key).await,
                }
            };
            let late = || Outcome::Unknown { why: format!("no answer within {} s", PATIENCE.as_secs()) };
            tokio::time::timeout(PATIENCE, attempt).await.unwrap_or_else(|_| late())
        } else {
            Outcome::Unsent
        };
        let done = self.now();
        let mut outbox = self.outbox();
        outbox.last += 1;
        let number = outbox.last;
        outbox.kept.push_back((number, Reply::Outcome { number, key: write.key, sent, done, outcome }));
        drop(outbox);
        self.news.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::{Error, ErrorKind};

    use super::*;

    #[tokio::test]
    async fn a_name_that_is_not_answered_yet_is_asked_for_again() {
        let asked = Cell::new(0);
        let look = || {
            asked.set(asked.get() + 1);
            let answer = match asked.get() {
                1 => Err(Error::from(ErrorKind::TimedOut)),
                2 => Ok(None),
                _ => Ok(Some(SocketAddr::from(([192, 0, 2, 1], 5432)))),
            };
            async { answer }
        };
        assert_eq!(look_up(look, LOOK_UP).await.unwrap().port(), 5432);
        assert_eq!(asked.get(), 3);
        let never = || async { Ok(None) };
        let error = look_up(never, Duration::ZERO).await.unwrap_err();
        assert_eq!(error.to_string(), "it has no address");
    }
}
