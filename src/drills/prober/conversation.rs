//! The conversation with the prober: writes are handed out ahead of their due times, each on disk before it is sent,
//! and their outcomes are recorded.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

use super::schedule::{Load, Write, schedule};
use crate::{
    drills::model::{
        clock::{Clock, Offset},
        history::{Micros, Outcome, Stream},
        ledger::{Ledger, LedgerRecord},
    },
    error::{Result, failed, timed_out},
    kube::Kube,
};

/// The prober's port; it listens on the pod's loopback address only.
const PORT: u16 = 7070;
/// Questions for the time at once when a connection is new.
const FIRST_QUESTIONS: u64 = 10;
/// A silent connection is broken: clocks are compared every second.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a broken connection may stay so.
const GIVE_UP: Duration = Duration::from_secs(120);
/// How long the last answers may take after the end: the prober's patience, and a margin.
const LAST_ANSWERS: Duration = Duration::from_secs(35);

#[derive(Debug, Serialize)]
#[serde(tag = "order", rename_all = "lowercase")]
enum Order<'a> {
    Hello { run: &'a str },
    Clock { n: u64 },
    Send { writes: &'a [Write] },
    Confirm { upto: u64 },
    Stop,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "report", rename_all = "lowercase")]
enum Report {
    Hello { process: u64, taken: u64 },
    Clock { n: u64, now: u64 },
    Outcome { n: u64, key: u64, sent: Option<u64>, done: u64, outcome: Outcome },
}

/// What is known so far, for the live view and the engine.
#[derive(Debug, Default)]
pub struct Live {
    acknowledged: [AtomicU64; 2],
    failed: [AtomicU64; 2],
    clock_error: AtomicU64,
}

impl Live {
    /// Writes that were acknowledged and that failed in a stream.
    pub fn counts(&self, stream: Stream) -> (u64, u64) {
        let of = |counters: &[AtomicU64; 2]| counters[stream as usize].load(Ordering::Relaxed);
        (of(&self.acknowledged), of(&self.failed))
    }

    /// How far the prober's clock may be off.
    pub fn clock_error(&self) -> Micros {
        self.clock_error.load(Ordering::Relaxed)
    }

    fn count(&self, stream: Stream, outcome: &Outcome) {
        let counters = match outcome {
            Outcome::Acknowledged { .. } => &self.acknowledged,
            Outcome::Unsent => return,
            _ => &self.failed,
        };
        counters[stream as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Where the prober is.
#[derive(Clone)]
pub struct Place {
    /// The cluster.
    pub kube: Kube,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
}

/// The writes of a run while they flow.
pub struct Flow {
    /// What is known so far.
    pub live: Arc<Live>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<()>>,
}

impl Flow {
    /// Starts writing.
    pub fn start(place: Place, run: &str, load: Load, ledger: Ledger, clock: Clock) -> Flow {
        let live = Arc::new(Live::default());
        let (stop, stopped) = watch::channel(false);
        let (sender, writes) = mpsc::unbounded_channel();
        let conversation = Conversation {
            place,
            run: run.to_owned(),
            ledger: ledger.clone(),
            clock,
            live: Arc::clone(&live),
            offset: Offset::default(),
            process: None,
            last: 0,
            open: BTreeMap::new(),
            kept: VecDeque::new(),
            handed: 0,
            writes,
            schedule_ended: false,
        };
        let schedule = schedule(load, ledger, clock, sender, stopped);
        let task = tokio::spawn(async move { tokio::try_join!(schedule, conversation.run()).map(drop) });
        Flow { live, stop, task }
    }

    /// Ends when writing can't go on; the error says why. Not for use after [`Flow::finish`].
    ///
    /// # Errors
    /// Always: the ledger's disk failed or the prober is gone.
    pub async fn broken(&mut self) -> Result<()> {
        match (&mut self.task).await {
            Ok(Ok(())) => Err(failed("the writes ended too early").into()),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(error.into()),
        }
    }

    /// Stops handing out writes and waits for the outcomes of all that are under way.
    ///
    /// # Errors
    /// The prober or the ledger's disk failed.
    pub async fn finish(mut self) -> Result<()> {
        self.stop.send_replace(true);
        match tokio::time::timeout(LAST_ANSWERS, &mut self.task).await {
            Ok(done) => done?,
            // What has no outcome in the ledger is unknown: the verdict resolves it by key.
            Err(_) => Ok(()),
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Conversation {
    place: Place,
    run: String,
    ledger: Ledger,
    clock: Clock,
    live: Arc<Live>,
    offset: Offset,
    process: Option<u64>,
    /// The last report that is recorded.
    last: u64,
    /// Writes without an outcome.
    open: BTreeMap<u64, Stream>,
    /// Writes that are not known to have arrived.
    kept: VecDeque<Write>,
    /// The last key that was sent on this connection, or had arrived before it.
    handed: u64,
    writes: mpsc::UnboundedReceiver<Vec<Write>>,
    /// There will be no more writes.
    schedule_ended: bool,
}

/// Questions for the time on one connection.
#[derive(Debug, Default)]
struct Questions {
    last: u64,
    asked: BTreeMap<u64, Micros>,
}

impl Conversation {
    async fn run(mut self) -> Result<()> {
        let mut give_up = Instant::now() + GIVE_UP;
        loop {
            let began = Instant::now();
            let Err(error) = self.connect().await else { return Ok(()) };
            if error.downcast_ref::<Fatal>().is_some() {
                return Err(error);
            }
            tracing::debug!("the connection to the prober broke: {error:#}");
            // It worked for a while: the time to give up starts anew.
            if began.elapsed() > SILENCE {
                give_up = Instant::now() + GIVE_UP;
            }
            if Instant::now() > give_up {
                return Err(error).context("the connection to the prober can't be made again");
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// One connection, from the hello until all is done or it breaks.
    async fn connect(&mut self) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.place.kube.client(), &self.place.namespace);
        let opening = tokio::time::timeout(SILENCE, pods.portforward(&self.place.pod, &[PORT])).await;
        let mut forward = opening.context("the port-forward does not open")??;
        let stream = forward.take_stream(PORT).context("the port-forward has no stream")?;
        let (read, mut write) = tokio::io::split(stream);
        let mut lines = BufReader::new(read).lines();
        let mut questions = Questions::default();
        send(&mut write, &Order::Hello { run: &self.run }).await?;
        self.ask(&mut questions, FIRST_QUESTIONS, &mut write).await?;

        let (mut greeted, mut stop_sent) = (false, false);
        let mut heard = Instant::now();
        let mut every_second = tokio::time::interval_at(heard + Duration::from_secs(1), Duration::from_secs(1));
        loop {
            // Without an answer to the question for the time, a due time would mean nothing to the prober.
            let ready = greeted && self.offset.known();
            if ready {
                self.hand_over(&mut write).await?;
                if self.schedule_ended && !stop_sent {
                    send(&mut write, &Order::Stop).await?;
                    stop_sent = true;
                }
            }
            if stop_sent && self.open.is_empty() {
                return Ok(());
            }
            tokio::select! {
                line = tokio::time::timeout_at(heard + SILENCE, lines.next_line()) => {
                    let line = line.context("the prober is silent")??.context("the prober hung up")?;
                    heard = Instant::now();
                    let mut reports: Vec<Report> = vec![serde_json::from_str(&line)?];
                    // What has arrived already goes to the disk in one go.
                    while let Some(Ok(Some(line))) = lines.next_line().now_or_never() {
                        reports.push(serde_json::from_str(&line)?);
                    }
                    for report in &reports {
                        match report {
                            Report::Hello { process, taken } => {
                                self.greeted(*process, *taken)?;
                                greeted = true;
                            }
                            Report::Clock { n, now } => self.answered(&mut questions, *n, *now),
                            Report::Outcome { .. } => {}
                        }
                    }
                    if self.record(reports).await? {
                        send(&mut write, &Order::Confirm { upto: self.last }).await?;
                    }
                }
                writes = self.writes.recv(), if ready && !self.schedule_ended => match writes {
                    Some(writes) => {
                        self.open.extend(writes.iter().map(|write| (write.key, write.stream)));
                        self.kept.extend(writes);
                    }
                    None => self.schedule_ended = true,
                },
                _ = every_second.tick() => self.ask(&mut questions, 1, &mut write).await?,
            }
        }
    }

    async fn ask(&self, questions: &mut Questions, count: u64, to: &mut (impl AsyncWriteExt + Unpin)) -> Result<()> {
        for _ in 0..count {
            questions.last += 1;
            questions.asked.insert(questions.last, self.clock.now());
            send(to, &Order::Clock { n: questions.last }).await?;
        }
        Ok(())
    }

    fn answered(&mut self, questions: &mut Questions, n: u64, now: u64) {
        if let Some(asked) = questions.asked.remove(&n) {
            self.offset.sample(asked, now, self.clock.now());
            self.live.clock_error.store(self.offset.error(), Ordering::Relaxed);
        }
    }

    fn greeted(&mut self, process: u64, taken: u64) -> Result<()> {
        if *self.process.get_or_insert(process) != process {
            bail!(Fatal("the prober was restarted: what it knew about the writes under way is lost".into()));
        }
        self.handed = taken;
        Ok(())
    }

    /// Sends what has not been sent on this connection and had not arrived before it.
    async fn hand_over(&mut self, to: &mut (impl AsyncWriteExt + Unpin)) -> Result<()> {
        let new = self.kept.iter().rev().take_while(|write| write.key > self.handed).count();
        let new = self.kept.range(self.kept.len() - new..);
        let writes: Vec<Write> = new.map(|write| Write { due: self.offset.theirs(write.due), ..*write }).collect();
        if let Some(last) = writes.last() {
            send(to, &Order::Send { writes: &writes }).await?;
            self.handed = last.key;
        }
        Ok(())
    }

    /// Puts new outcomes on disk; whether there were any.
    async fn record(&mut self, reports: Vec<Report>) -> Result<bool> {
        let mut records = Vec::new();
        for report in reports {
            let Report::Outcome { n, key, sent, done, outcome } = report else { continue };
            // Sent again after a broken connection.
            if n <= self.last {
                continue;
            }
            self.last = n;
            let Some(stream) = self.open.remove(&key) else { continue };
            self.live.count(stream, &outcome);
            // Writes are taken in the order of their keys: those before this one have arrived, too.
            while self.kept.front().is_some_and(|write| write.key <= key) {
                self.kept.pop_front();
            }
            let (sent, done) = (sent.map(|sent| self.offset.ours(sent)), self.offset.ours(done));
            records.push(LedgerRecord::Outcome { key, sent, done, outcome });
        }
        if records.is_empty() {
            return Ok(false);
        }
        self.ledger.append_durably(records).await.map_err(|error| Fatal(format!("{error:#}")))?;
        Ok(true)
    }
}

/// What another connection would not mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Fatal(String);

async fn send(to: &mut (impl AsyncWriteExt + Unpin), order: &Order<'_>) -> Result<()> {
    let mut line = serde_json::to_vec(order)?;
    line.push(b'\n');
    let written = tokio::time::timeout(SILENCE, async {
        to.write_all(&line).await?;
        to.flush().await
    });
    written.await.map_err(|_| timed_out("the prober takes nothing"))??;
    Ok(())
}
