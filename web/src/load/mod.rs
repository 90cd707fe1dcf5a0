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
use stackctl_protocol::load::{Stage, variables};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::config::{number, text};
use client::{Action, Site, Visit};
use report::Tally;

/// A request that no user was free for after so long is not sent any more: what keeps up with less than the
/// rate would otherwise have an ever longer queue.
const QUEUE: Duration = Duration::from_secs(10);
/// The time that an answer may take. The app's own deadline is shorter.
const PATIENCE: Duration = Duration::from_secs(25);
/// The time that the last answers may take at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// The registered users that are kept in mind at most, to be read and changed.
const KNOWN: usize = 1000;

/// The settings of a load, from the environment.
#[derive(Debug, Clone)]
pub struct LoadSettings {
    /// The Service, `name:port`.
    pub web: String,
    /// A word that marks what is registered.
    pub run: String,
    /// Requests a second.
    pub rate: f64,
    /// The load's length.
    pub lasts: Duration,
    /// Users at the same time at most.
    pub users: usize,
    /// Requests a second of the trickle after the load.
    pub tail_rate: f64,
    /// The trickle's length at most.
    pub tail: Duration,
}

impl LoadSettings {
    /// Reads the environment; the error names the variable.
    pub fn from_env() -> Result<Self> {
        let load = Self {
            web: text(variables::WEB, "user-app:80"),
            run: text(variables::RUN, "load"),
            rate: number(variables::RATE, 100.0)?,
            lasts: Duration::from_secs(number(variables::SECONDS, 60)?),
            users: number(variables::USERS, 50)?,
            tail_rate: number(variables::TAIL_RATE, 5.0)?,
            tail: Duration::from_secs(number(variables::TAIL_SECONDS, 0)?),
        };
        let rate_ok = |rate: f64| (0.01..=1e6).contains(&rate);
        if load.users == 0 || !rate_ok(load.rate) || !rate_ok(load.tail_rate) {
            bail!("LOAD_USERS must be at least 1, LOAD_RATE and LOAD_TAIL_RATE between 0.01 and 1000000");
        }
        Ok(load)
    }
}

/// Sends the load; ends with it, or on SIGTERM.
pub async fn load(settings: &LoadSettings) -> Result<()> {
    let mut found =
        tokio::net::lookup_host(&settings.web).await.with_context(|| format!("looking up {}", settings.web))?;
    let address = found.next().with_context(|| format!("{} has no address", settings.web))?;
    let site = Site { host: settings.web.clone(), address, run: settings.run.clone() };
    let mut term = signal(SignalKind::terminate())?;
    let crowd = Arc::new(Crowd::new(site, settings.clone()));
    tokio::select! {
        failed = crowd.report_each_second() => failed?,
        () = crowd.send() => {}
        _ = term.recv() => {}
    }
    crowd.wait_for_last_answers().await;
    crowd.report(true)
}

/// The users of a run: each request is a user's, and there are only so many at the same time.
struct Crowd {
    site: Site,
    settings: LoadSettings,
    began: Instant,
    /// A permit for each user who is free.
    free: Semaphore,
    /// Requests that are due and wait for a free user.
    waiting: AtomicU64,
    /// Requests without an outcome.
    open: watch::Sender<u64>,
    /// Visits that go on, the most recent last: it goes on first, so that the others end.
    visits: Mutex<Vec<Visit>>,
    /// Ids of users that were registered.
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
    fn new(site: Site, settings: LoadSettings) -> Self {
        Self {
            site,
            began: Instant::now(),
            free: Semaphore::new(settings.users),
            settings,
            waiting: AtomicU64::new(0),
            open: watch::channel(0).0,
            visits: Mutex::default(),
            known: Mutex::default(),
            tally: Tally::default(),
        }
    }

    /// Sends each request when it is due, without waiting for answers.
    async fn send(self: &Arc<Self>) {
        let (mut due, mut number) = (self.began, 0);
        let load_ends = self.began + self.settings.lasts;
        let (load, tail) = (self.settings.rate, self.settings.tail_rate);
        for (stage, rate, ends) in [(Stage::Load, load, load_ends), (Stage::Tail, tail, load_ends + self.settings.tail)]
        {
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

    /// Sends a request and counts it as open until then.
    async fn serve(self: Arc<Self>, stage: Stage, due: Instant, number: u64) {
        self.request(stage, due, number).await;
        self.open.send_modify(|open| *open -= 1);
    }

    /// Sends one request: waits for a free user, who asks, and counts the outcome.
    async fn request(&self, stage: Stage, due: Instant, number: u64) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let permit = tokio::time::timeout_at(due + QUEUE, self.free.acquire()).await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let Ok(Ok(_permit)) = permit else {
            let why = format!("not sent: no user was free for {} s", QUEUE.as_secs());
            return self.tally.count_failure(stage, why);
        };
        match tokio::time::timeout(PATIENCE, self.ask(self.action(number))).await {
            Ok(Ok(())) => self.tally.count_answer(stage, micros(due.elapsed())),
            Ok(Err(error)) => self.tally.count_failure(stage, format!("{error:#}")),
            Err(_) => self.tally.count_failure(stage, format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    /// Asks in a visit that goes on, or begins one.
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

    /// The action that the request of this number asks for.
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

    async fn report_each_second(&self) -> Result<()> {
        // The start is reported at once: whoever listens measures from then.
        let mut ticks = tokio::time::interval_at(self.began, Duration::from_secs(1));
        loop {
            ticks.tick().await;
            self.report(false)?;
        }
    }

    fn report(&self, ended: bool) -> Result<()> {
        let second = self.began.elapsed().as_secs();
        let stage = if second <= self.settings.lasts.as_secs() { Stage::Load } else { Stage::Tail };
        let busy = self.settings.users.saturating_sub(self.free.available_permits()) as u64;
        self.tally.report(second, stage, (busy, self.waiting.load(Ordering::Relaxed)), ended)
    }

    /// Waits for the answers that are under way; requests whose answers do not come in time are not counted either way.
    async fn wait_for_last_answers(&self) {
        let mut open = self.open.subscribe();
        let _ = tokio::time::timeout(LAST_ANSWERS, open.wait_for(|open| *open == 0)).await;
    }
}

#[cfg(test)]
mod tests;
