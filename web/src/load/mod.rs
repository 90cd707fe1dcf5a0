//! `user-app load`: requests at a fixed rate from inside the cluster, through the Service as users come.
//!
//! The load is open: each request has a time at which it is due, whatever became of those before it, and its
//! latency counts from then. Where the app is slow, requests wait for a free user, and that waiting is a part of
//! their latency: nothing is left out because the sender was held up (coordinated omission).
//!
//! Of twenty requests ten are the page with the newest users, eight are one user by the API, one registers a
//! user and one changes one. Users that are registered have addresses at `load.invalid`; whoever starts the load
//! removes them.
//!
//! | variable | meaning |
//! |---|---|
//! | `LOAD_WEB` | the Service, `name:port` |
//! | `LOAD_RUN` | a word that marks what is registered |
//! | `LOAD_RATE`, `LOAD_SECONDS` | requests a second, and for how long |
//! | `LOAD_USERS` | users at most at the same time, each with a connection |
//! | `LOAD_TAIL_RATE`, `LOAD_TAIL_SECONDS` | a trickle after that, until SIGTERM or for so long |

mod client;
mod histogram;
mod report;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::config::{number, text};
use client::{Action, Site, Visit};
use report::{Stage, Tally};

/// A request that no user was free for after so long is not sent any more: what keeps up with less than the
/// rate would otherwise have an ever longer queue.
const QUEUE: Duration = Duration::from_secs(10);
/// How long an answer may take. The app's own deadline is shorter.
const PATIENCE: Duration = Duration::from_secs(25);
/// How long the last answers may take at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// Registered users that are kept in mind, to be read and changed.
const KNOWN: usize = 1000;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Load {
    /// The Service, `name:port`.
    pub web: String,
    /// Marks what is registered.
    pub run: String,
    /// Requests a second.
    pub rate: f64,
    /// For how long.
    pub lasts: Duration,
    /// Users at the same time at most.
    pub users: usize,
    /// Requests a second afterwards.
    pub tail_rate: f64,
    /// For how long afterwards at most.
    pub tail: Duration,
}

impl Load {
    /// Reads the environment; the error names the variable.
    pub fn from_env() -> Result<Self> {
        let load = Self {
            web: text("LOAD_WEB", "user-app:80"),
            run: text("LOAD_RUN", "load"),
            rate: number("LOAD_RATE", 100.0)?,
            lasts: Duration::from_secs(number("LOAD_SECONDS", 60)?),
            users: number("LOAD_USERS", 50)?,
            tail_rate: number("LOAD_TAIL_RATE", 5.0)?,
            tail: Duration::from_secs(number("LOAD_TAIL_SECONDS", 0)?),
        };
        let rate_ok = |rate: f64| (0.01..=1e6).contains(&rate);
        if load.users == 0 || !rate_ok(load.rate) || !rate_ok(load.tail_rate) {
            bail!("LOAD_USERS must be at least 1, LOAD_RATE and LOAD_TAIL_RATE between 0.01 and 1000000");
        }
        Ok(load)
    }
}

/// Sends the load; ends with it, or on SIGTERM.
pub async fn load(load: &Load) -> Result<()> {
    let mut found = tokio::net::lookup_host(&load.web).await.with_context(|| format!("looking up {}", load.web))?;
    let address = found.next().with_context(|| format!("{} has no address", load.web))?;
    let site = Site { host: load.web.clone(), address, run: load.run.clone() };
    let mut term = signal(SignalKind::terminate())?;
    let crowd = Arc::new(Crowd::new(site, load.clone()));
    tokio::select! {
        told = crowd.tell_each_second() => told?,
        () = crowd.send() => {}
        _ = term.recv() => {}
    }
    crowd.leave().await;
    crowd.tell(true)
}

/// The users.
struct Crowd {
    site: Site,
    load: Load,
    began: Instant,
    free: Semaphore,
    waiting: AtomicU64,
    /// Requests without an outcome.
    open: watch::Sender<u64>,
    /// The most recent last: it goes on first, so that the others end.
    visits: Mutex<Vec<Visit>>,
    known: Mutex<Vec<i64>>,
    tally: Tally,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Crowd {
    fn new(site: Site, load: Load) -> Self {
        Self {
            site,
            began: Instant::now(),
            free: Semaphore::new(load.users),
            load,
            waiting: AtomicU64::new(0),
            open: watch::channel(0).0,
            visits: Mutex::default(),
            known: Mutex::default(),
            tally: Tally::default(),
        }
    }

    /// Sends each request when it is due; does not wait for answers.
    async fn send(self: &Arc<Self>) {
        let (mut due, mut number) = (self.began, 0);
        let load_ends = self.began + self.load.lasts;
        let (load, tail) = (self.load.rate, self.load.tail_rate);
        for (stage, rate, ends) in [(Stage::Load, load, load_ends), (Stage::Tail, tail, load_ends + self.load.tail)] {
            let spacing = Duration::from_secs_f64(1.0 / rate);
            while due < ends {
                tokio::time::sleep_until(due).await;
                self.open.send_modify(|open| *open += 1);
                tokio::spawn(Arc::clone(self).serve(stage, due, number));
                number += 1;
                due += spacing;
            }
            due = due.max(ends);
        }
    }

    async fn serve(self: Arc<Self>, stage: Stage, due: Instant, number: u64) {
        self.request(stage, due, number).await;
        self.open.send_modify(|open| *open -= 1);
    }

    /// One request: waits for a free user, who asks.
    async fn request(&self, stage: Stage, due: Instant, number: u64) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let permit = tokio::time::timeout_at(due + QUEUE, self.free.acquire()).await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let Ok(Ok(_permit)) = permit else {
            let why = format!("not sent: no user was free for {} s", QUEUE.as_secs());
            return self.tally.failed(stage, why);
        };
        match tokio::time::timeout(PATIENCE, self.ask(self.action(number))).await {
            Ok(Ok(())) => self.tally.answered(stage, micros(due.elapsed())),
            Ok(Err(error)) => self.tally.failed(stage, format!("{error:#}")),
            Err(_) => self.tally.failed(stage, format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn ask(&self, action: Action) -> Result<()> {
        let kept = {
            let mut visits = lock(&self.visits);
            let kept = visits.pop().filter(Visit::goes_on);
            if kept.is_none() {
                // All below it have been idle for longer, or have ended, too.
                visits.retain(Visit::goes_on);
            }
            kept
        };
        let mut visit = match kept {
            Some(visit) => visit,
            None => Visit::begin(&self.site).await?,
        };
        if let Some(id) = visit.ask(&self.site, action).await? {
            let mut known = lock(&self.known);
            if known.len() < KNOWN {
                known.push(id);
            }
        }
        if visit.goes_on() {
            lock(&self.visits).push(visit);
        }
        Ok(())
    }

    /// What the request of this number asks for.
    fn action(&self, number: u64) -> Action {
        let known = lock(&self.known);
        let one = usize::try_from(number).unwrap_or(0).checked_rem(known.len()).map(|at| known[at]);
        match (number % 20, one) {
            (3, _) => Action::Register(number),
            (13, Some(id)) => Action::Change(id, number),
            (turn, Some(id)) if turn % 2 == 1 => Action::Read(id),
            _ => Action::Page,
        }
    }

    async fn tell_each_second(&self) -> Result<()> {
        // The start is told at once: whoever listens measures from then.
        let mut ticks = tokio::time::interval_at(self.began, Duration::from_secs(1));
        loop {
            ticks.tick().await;
            self.tell(false)?;
        }
    }

    fn tell(&self, ended: bool) -> Result<()> {
        let second = self.began.elapsed().as_secs();
        let stage = if second <= self.load.lasts.as_secs() { Stage::Load } else { Stage::Tail };
        let busy = self.load.users.saturating_sub(self.free.available_permits()) as u64;
        self.tally.tell(second, stage, (busy, self.waiting.load(Ordering::Relaxed)), ended)
    }

    /// Waits for the answers that are under way; those that do not come in time are not counted either way.
    async fn leave(&self) {
        let mut open = self.open.subscribe();
        let _ = tokio::time::timeout(LAST_ANSWERS, open.wait_for(|open| *open == 0)).await;
    }
}

#[cfg(test)]
mod tests;
