//! The conversation with the prober: writes are handed out ahead of their due times, each on disk before it is sent,
//! and their outcomes are recorded.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context as _, bail};
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use stackctl_protocol::probe::{Order, PORT, Reply};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

use super::{
    live_counts::LiveCounts,
    schedule::{ScheduledWrite, WriteSchedule, hand_out_writes},
};
use crate::{
    drills::model::{
        clock::{Clock, Offset},
        history::{Micros, Outcome, Stream},
        ledger::{Ledger, LedgerRecord},
    },
    error::{Result, failed, one_line, timed_out},
    kube::{Kube, request_failure},
    poll::Tries,
};

/// Questions for the time at once when a connection is new.
const FIRST_QUESTIONS: u64 = 10;
/// A silent connection is broken: clocks are compared every second.
const SILENCE: Duration = Duration::from_secs(5);
/// The time that a connection may stay broken.
const GIVE_UP: Duration = Duration::from_secs(120);
/// The time that the last answers may take after the end: the prober's patience, and a margin.
const LAST_ANSWERS: Duration = Duration::from_secs(35);

/// The pod that the prober runs in.
#[derive(Clone)]
pub struct ProberPod {
    /// The cluster.
    pub kube: Kube,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
}

/// The writes of a run, which flow until the session is finished or dropped.
pub struct ProberSession {
    /// The counts so far.
    pub live: Arc<LiveCounts>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<()>>,
}

impl ProberSession {
    /// Starts the conversation with the prober in `pod`, and hands out writes by `schedule`.
    pub fn start(pod: ProberPod, run: &str, schedule: WriteSchedule, ledger: Ledger, clock: Clock) -> ProberSession {
        let live = Arc::new(LiveCounts::default());
        let (stop, stopped) = watch::channel(false);
        let (sender, writes) = mpsc::unbounded_channel();
        let conversation = Conversation {
            pod,
            run: run.to_owned(),
            ledger: ledger.clone(),
            clock,
            live: Arc::clone(&live),
            offset: Offset::default(),
            process: None,
            last_outcome: 0,
            open: BTreeMap::new(),
            unconfirmed: VecDeque::new(),
            handed_over: 0,
            writes,
            schedule_ended: false,
            was_heard: false,
        };
        let handing_out = hand_out_writes(schedule, ledger, clock, sender, stopped);
        let task = tokio::spawn(async move { tokio::try_join!(handing_out, conversation.run()).map(drop) });
        ProberSession { live, stop, task }
    }

    /// Waits until writing can't go on; the error says why. Not for use after [`ProberSession::finish`].
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

impl Drop for ProberSession {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The conversation with one prober, over as many connections as it takes.
struct Conversation {
    pod: ProberPod,
    run: String,
    ledger: Ledger,
    clock: Clock,
    live: Arc<LiveCounts>,
    offset: Offset,
    /// The prober's process, once it has said who it is.
    process: Option<u64>,
    /// The number of the last outcome that is recorded.
    last_outcome: u64,
    /// Writes without an outcome.
    open: BTreeMap<u64, Stream>,
    /// Writes that are not known to have arrived.
    unconfirmed: VecDeque<ScheduledWrite>,
    /// The last key that was sent on this connection, or had arrived before it.
    handed_over: u64,
    writes: mpsc::UnboundedReceiver<Vec<ScheduledWrite>>,
    /// The schedule has no more writes.
    schedule_ended: bool,
    /// The prober has said something on this connection.
    was_heard: bool,
}

/// The questions for the time that were asked on one connection.
#[derive(Debug, Default)]
struct ClockQuestions {
    last: u64,
    /// The time at which each question without an answer was asked.
    asked: BTreeMap<u64, Micros>,
}

impl Conversation {
    /// Connects again and again until all is done, or the prober does not come back.
    async fn run(mut self) -> Result<()> {
        let mut tries = Tries::within(GIVE_UP, Duration::from_millis(300));
        loop {
            let began = Instant::now();
            let Err(error) = self.converse().await else { return Ok(()) };
            if error.downcast_ref::<Fatal>().is_some() {
                return Err(error);
            }
            tracing::debug!("the connection to the prober broke: {error:#}");
            self.live.set_trouble(Some(one_line(&error)));
            // It worked for a while: the time to give up starts anew.
            if std::mem::take(&mut self.was_heard) && began.elapsed() > SILENCE {
                tries.begin_again(GIVE_UP);
            }
            if !tries.another().await {
                return Err(error).context("the connection to the prober can't be made again");
            }
        }
    }

    /// Converses over one connection, from the hello until all is done or the connection breaks.
    async fn converse(&mut self) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.pod.kube.client(), &self.pod.namespace);
        let opening = tokio::time::timeout(SILENCE, pods.portforward(&self.pod.name, &[PORT])).await;
        let opening = opening.context("the port-forward to the prober does not open")?;
        let mut forward = opening.map_err(|error| request_failure(&error, "reach the prober"))?;
        let stream = forward.take_stream(PORT).context("the port-forward has no stream")?;
        let (read, mut write) = tokio::io::split(stream);
        let mut lines = BufReader::new(read).lines();
        let mut questions = ClockQuestions::default();
        send(&mut write, &Order::Hello { run: self.run.clone() }).await?;
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
                    if !std::mem::replace(&mut self.was_heard, true) {
                        self.live.set_trouble(None);
                    }
                    let mut replies: Vec<Reply> = vec![serde_json::from_str(&line)?];
                    // What has arrived already goes to the disk in one go.
                    while let Some(Ok(Some(line))) = lines.next_line().now_or_never() {
                        replies.push(serde_json::from_str(&line)?);
                    }
                    for reply in &replies {
                        match reply {
                            Reply::Hello { process, last_key } => {
                                self.on_hello(*process, *last_key)?;
                                greeted = true;
                            }
                            Reply::Clock { question, now } => self.on_clock(&mut questions, *question, *now),
                            Reply::Outcome { .. } => {}
                        }
                    }
                    if self.record(replies).await? {
                        send(&mut write, &Order::Confirm { up_to: self.last_outcome }).await?;
                    }
                }
                writes = self.writes.recv(), if ready && !self.schedule_ended => match writes {
                    Some(writes) => {
                        self.open.extend(writes.iter().map(|write| (write.key, write.stream)));
                        self.unconfirmed.extend(writes);
                    }
                    None => self.schedule_ended = true,
                },
                _ = every_second.tick() => self.ask(&mut questions, 1, &mut write).await?,
            }
        }
    }

    /// Asks the prober `count` times for its time.
    async fn ask(
        &self,
        questions: &mut ClockQuestions,
        count: u64,
        to: &mut (impl AsyncWriteExt + Unpin),
    ) -> Result<()> {
        for _ in 0..count {
            questions.last += 1;
            questions.asked.insert(questions.last, self.clock.now());
            send(to, &Order::Clock { question: questions.last }).await?;
        }
        Ok(())
    }

    fn on_clock(&mut self, questions: &mut ClockQuestions, question: u64, now: u64) {
        if let Some(asked) = questions.asked.remove(&question) {
            self.offset.sample(asked, now, self.clock.now());
            self.live.clock_error.store(self.offset.error(), Ordering::Relaxed);
        }
    }

    fn on_hello(&mut self, process: u64, last_key: u64) -> Result<()> {
        if *self.process.get_or_insert(process) != process {
            bail!(Fatal("the prober was restarted: what it knew about the writes under way is lost".into()));
        }
        self.handed_over = last_key;
        Ok(())
    }

    /// Sends what has not been sent on this connection and had not arrived before it.
    async fn hand_over(&mut self, to: &mut (impl AsyncWriteExt + Unpin)) -> Result<()> {
        let new = self.unconfirmed.iter().rev().take_while(|write| write.key > self.handed_over).count();
        let new = self.unconfirmed.range(self.unconfirmed.len() - new..);
        let writes: Vec<_> = new.map(|write| write.on_the_wire(&self.offset)).collect();
        if let Some(last) = writes.last().map(|last| last.key) {
            send(to, &Order::Send { writes }).await?;
            self.handed_over = last;
        }
        Ok(())
    }

    /// Puts new outcomes on disk; whether there were any.
    async fn record(&mut self, replies: Vec<Reply>) -> Result<bool> {
        // All are understood before the first one counts.
        let mut outcomes = Vec::new();
        for reply in replies {
            if let Reply::Outcome { number, key, sent, done, outcome } = reply {
                outcomes.push((number, key, sent, done, Outcome::try_from(outcome)?));
            }
        }
        let mut records = Vec::new();
        for (number, key, sent, done, outcome) in outcomes {
            // Sent again after a broken connection.
            if number <= self.last_outcome {
                continue;
            }
            self.last_outcome = number;
            let Some(stream) = self.open.remove(&key) else { continue };
            self.live.count(stream, &outcome);
            // Writes are taken in the order of their keys: those before this one have arrived, too.
            while self.unconfirmed.front().is_some_and(|write| write.key <= key) {
                self.unconfirmed.pop_front();
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

/// A failure that another connection would not mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Fatal(String);

async fn send(to: &mut (impl AsyncWriteExt + Unpin), order: &Order) -> Result<()> {
    let mut line = serde_json::to_vec(order)?;
    line.push(b'\n');
    let written = tokio::time::timeout(SILENCE, async {
        to.write_all(&line).await?;
        to.flush().await
    });
    written.await.map_err(|_| timed_out("the prober takes nothing"))??;
    Ok(())
}
