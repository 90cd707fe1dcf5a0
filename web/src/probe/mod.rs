//! `user-app probe`: sends the writes of a failover drill from inside the cluster.
//!
//! It decides nothing. `stackctl` connects through a port-forward and hands out writes, each with its key
//! and the time at which it is due, after it has recorded them; the prober sends each one once, at that
//! time, whatever became of those before it, and tells what came of it. Outcomes are kept until they are
//! confirmed: a broken connection loses none, and the next one goes on where it broke.
//!
//! Lines of JSON both ways, [`Order`]s in and [`Report`]s out. Times are microseconds of this process's
//! monotonic clock; [`Order::Clock`] lets the other side find the difference to its own.

mod http;
mod sql;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    time::Instant,
};

use crate::config::Database;

/// Only a port-forward reaches the loopback address of a pod.
const LISTEN: &str = "127.0.0.1:7070";
/// How long a write may take before its answer is given up. The app's own deadline is shorter.
const PATIENCE: Duration = Duration::from_secs(25);
/// A prober that nobody talks to ends: it must not outlive a `stackctl` that crashed.
const ABANDONED: Duration = Duration::from_secs(300);

/// What comes in.
#[derive(Debug, Deserialize)]
#[serde(tag = "order", rename_all = "lowercase")]
enum Order {
    /// Say who you are; send again what is not confirmed.
    Hello {
        /// The run's name, a part of every row.
        run: String,
    },
    /// What time is it?
    Clock {
        /// Comes back with the answer.
        n: u64,
    },
    /// Send these. Keys only grow: one that was taken before is not taken again.
    Send {
        /// The writes.
        writes: Vec<Write>,
    },
    /// Outcomes up to this number are recorded.
    Confirm {
        /// The number.
        upto: u64,
    },
    /// Send nothing more.
    Stop,
}

/// A write to be sent.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Write {
    key: u64,
    stream: Stream,
    due: u64,
}

/// The way to the database.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stream {
    Sql,
    Http,
}

/// What goes out.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "report", rename_all = "lowercase")]
enum Report {
    /// The answer to a hello. Another `process` means that what the old one knew is lost. Writes beyond
    /// `taken` have not arrived.
    Hello { process: u64, taken: u64 },
    /// The answer to a question for the time.
    Clock { n: u64, now: u64 },
    /// What came of a write.
    Outcome {
        n: u64,
        key: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        sent: Option<u64>,
        done: u64,
        outcome: Outcome,
    },
}

/// How a write ended, as far as this side knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum Outcome {
    /// It is stored, the server says without reservation.
    Acknowledged {
        /// Where the row was written.
        #[serde(skip_serializing_if = "Option::is_none")]
        place: Option<Place>,
    },
    /// It is certainly not stored.
    Refused {
        /// Why.
        why: String,
    },
    /// It may be stored or not.
    Unknown {
        /// What came instead of an answer.
        why: String,
    },
    /// It was stopped before it was due.
    Unsent,
}

/// Where a row was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    timeline: u32,
    lsn: String,
    server: String,
}

/// Runs until it is killed or abandoned.
pub async fn probe(database: &Database, web: &str) -> Result<()> {
    let listener = TcpListener::bind(LISTEN).await.with_context(|| format!("listening on {LISTEN}"))?;
    let clients = Clients { sql: sql::Pool::new(database).await?, http: http::Web::new(web).await? };
    let prober = Arc::new(Prober::new(clients));
    tracing::info!(address = LISTEN, "ready");
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

struct Clients {
    sql: Arc<sql::Pool>,
    http: Arc<http::Web>,
}

struct Prober {
    began: Instant,
    process: u64,
    taken: AtomicU64,
    clients: Clients,
    outbox: Mutex<Outbox>,
    news: Notify,
    stopped: watch::Sender<bool>,
}

/// Outcomes that are not confirmed.
#[derive(Default)]
struct Outbox {
    last: u64,
    kept: VecDeque<(u64, Report)>,
}

impl Prober {
    fn new(clients: Clients) -> Self {
        // The time of its start tells a process from its successor.
        let process = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |d| d.as_micros());
        Self {
            began: Instant::now(),
            process: u64::try_from(process).unwrap_or(1),
            taken: AtomicU64::new(0),
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

    async fn converse(self: &Arc<Self>, socket: TcpStream) -> Result<()> {
        socket.set_nodelay(true)?;
        let (read, mut write) = socket.into_split();
        let mut lines = BufReader::new(read).lines();
        let mut run: Option<Arc<str>> = None;
        // What of the outbox has gone into this connection.
        let mut told = 0;
        loop {
            let mut replies = Vec::new();
            tokio::select! {
                line = lines.next_line() => {
                    let Some(line) = line? else { return Ok(()) };
                    match serde_json::from_str(&line).with_context(|| format!("an order: {line}"))? {
                        Order::Hello { run: name } => {
                            run = Some(name.into());
                            replies.push(Report::Hello {
                                process: self.process,
                                taken: self.taken.load(Ordering::Acquire),
                            });
                        }
                        Order::Clock { n } => replies.push(Report::Clock { n, now: self.now() }),
                        Order::Send { writes } => {
                            let run = run.clone().context("writes before a hello")?;
                            for order in writes {
                                if self.taken.fetch_max(order.key, Ordering::AcqRel) < order.key {
                                    tokio::spawn(Arc::clone(self).send(order, Arc::clone(&run)));
                                }
                            }
                        }
                        Order::Confirm { upto } => {
                            let mut outbox = self.outbox();
                            while outbox.kept.front().is_some_and(|(n, _)| *n <= upto) {
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
                replies.extend(outbox.kept.iter().filter(|(n, _)| *n > told).map(|(_, report)| report.clone()));
                told = outbox.last;
            }
            let mut text = String::new();
            for reply in &replies {
                text.push_str(&serde_json::to_string(reply)?);
                text.push('\n');
            }
            write.write_all(text.as_bytes()).await?;
        }
    }

    async fn send(self: Arc<Self>, order: Write, run: Arc<str>) {
        let due = self.began + Duration::from_micros(order.due);
        let mut stopped = self.stopped.subscribe();
        let go = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => false,
            () = tokio::time::sleep_until(due) => true,
        };
        let sent = go.then(|| self.now());
        let outcome = if go {
            let attempt = async {
                match order.stream {
                    Stream::Sql => self.clients.sql.write(&run, order.key).await,
                    Stream::Http => self.clients.http.write(&run, order.key).await,
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
        let n = outbox.last;
        outbox.kept.push_back((n, Report::Outcome { n, key: order.key, sent, done, outcome }));
        drop(outbox);
        self.news.notify_one();
    }
}
