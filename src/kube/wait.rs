//! Waiting until objects are ready: watched, with a deadline, and with the reason when it takes long.

use std::time::{Duration, Instant};

use futures::stream::{self, BoxStream, StreamExt};
use kube::{
    api::DynamicObject,
    runtime::{WatchStreamExt, watcher},
};

use super::{
    Kube, ObjectRef, Problem, api_error,
    explain::{self, Watchlist},
    live,
    readiness::{Readiness, readiness},
};
use crate::error::{Failure, Result, failed, timed_out};

/// How often what is not ready is looked into.
const LOOK_EVERY: Duration = Duration::from_secs(4);
/// What is not ready is left alone for this long first.
const LOOK_AFTER: Duration = Duration::from_secs(3);
/// The server ends a watch after this time; a dead connection is noticed soon after.
const WATCH_SECONDS: u32 = 40;

/// What is told while waiting.
#[derive(Debug)]
pub enum WaitEvent {
    /// An object's readiness, sent when it changes.
    State {
        /// Which.
        object: ObjectRef,
        /// How ready it is.
        readiness: Readiness,
    },
    /// Something is in the way; each is told once.
    Problem(Problem),
}

/// Where those that want to know are told.
pub type OnWait<'a> = &'a (dyn Fn(WaitEvent) + Send + Sync);

/// Waits until all of them are ready at the same time. What is ready already costs one list for each kind
/// and namespace and nothing more.
///
/// # Errors
/// What cannot recover by itself ends the wait at once (exit code 1), the deadline with exit code 5; both
/// say which objects are not ready and why.
pub async fn wait_ready(kube: &Kube, objects: &[ObjectRef], deadline: Instant, on: OnWait<'_>) -> Result<()> {
    let mut wait = Wait { kube, on, states: Vec::with_capacity(objects.len()), watchlist: Watchlist::default() };
    for object in objects {
        wait.states.push((live::scoped(kube, object).await?, None));
    }
    let work = async {
        wait.look_once().await?;
        if wait.ready() { Ok(()) } else { wait.watch().await }
    };
    match tokio::time::timeout_at(deadline.into(), work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(wait.too_late().into()),
    }
}

struct Wait<'a> {
    kube: &'a Kube,
    on: OnWait<'a>,
    states: Vec<(ObjectRef, Option<Readiness>)>,
    watchlist: Watchlist,
}

impl Wait<'_> {
    fn ready(&self) -> bool {
        self.states.iter().all(|(_, state)| state.as_ref().is_some_and(Readiness::is_ready))
    }

    async fn look_once(&mut self) -> Result<()> {
        let references: Vec<ObjectRef> = self.states.iter().map(|(object, _)| object.clone()).collect();
        let mut found = live::objects(self.kube, &references).await?;
        for reference in references {
            let state = found.remove(&reference).map_or_else(absent, |object| state_of(&object));
            self.set(&reference, state)?;
        }
        Ok(())
    }

    /// Records a state; a failed one ends the wait.
    fn set(&mut self, object: &ObjectRef, new: Readiness) -> Result<()> {
        let Some((_, state)) = self.states.iter_mut().find(|(reference, _)| reference == object) else {
            return Ok(());
        };
        if state.as_ref() != Some(&new) {
            *state = Some(new.clone());
            (self.on)(WaitEvent::State { object: object.clone(), readiness: new.clone() });
        }
        if new.is_ready() {
            self.watchlist.forget(object);
        }
        match new {
            // A Deployment past its progress deadline may still come up, and its pods tell more: see `look_into`.
            Readiness::Failed { reason, .. } if reason == "ProgressDeadlineExceeded" => Ok(()),
            Readiness::Failed { reason, message } => {
                Err(failed(format!("{object} cannot become ready: {reason}: {message}")).into())
            }
            _ => Ok(()),
        }
    }

    async fn watch(&mut self) -> Result<()> {
        let mut events = self.events().await?;
        let began = Instant::now();
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + LOOK_AFTER, LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Seen::Object(object, state)) => self.set(&object, state)?,
                    Some(Seen::Listed(group, present)) => {
                        for object in group.iter().filter(|object| !present.contains(&object.name)) {
                            self.set(object, absent())?;
                        }
                    }
                    Some(Seen::Error(error)) => self.broken(&error)?,
                    None => return Err(failed("the watch of the cluster ended").into()),
                },
                _ = tick.tick() => self.look_into(began).await?,
            }
            if self.ready() {
                return Ok(());
            }
        }
    }

    /// A watch restarts by itself; only what will not pass ends the wait.
    fn broken(&self, error: &watcher::Error) -> Result<()> {
        let cause = match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => error,
            other => {
                tracing::debug!("a watch restarts: {other}");
                return Ok(());
            }
        };
        match cause {
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
                Err(api_error::status_failure(status, "watch the objects").into())
            }
            other => {
                tracing::debug!("a watch restarts: {other}");
                Ok(())
            }
        }
    }

    /// One stream of what happens to all of them.
    async fn events(&self) -> Result<BoxStream<'static, Seen>> {
        let references: Vec<ObjectRef> = self.states.iter().map(|(object, _)| object.clone()).collect();
        let mut streams = Vec::new();
        for group in live::groups(&references) {
            let api = self.kube.api(group[0]).await?;
            let config = watcher::Config {
                field_selector: live::selector(&group),
                ..watcher::Config::default().timeout(WATCH_SECONDS)
            };
            let group: Vec<ObjectRef> = group.into_iter().cloned().collect();
            let mut present: Vec<String> = Vec::new();
            let stream = watcher(api, config)
                .default_backoff()
                .filter_map(move |event| std::future::ready(seen(event, &group, &mut present)));
            streams.push(stream.boxed());
        }
        Ok(stream::select_all(streams).boxed())
    }

    /// Finds out why things are not ready, tells what is new, and ends the wait on what is final.
    async fn look_into(&mut self, began: Instant) -> Result<()> {
        let waiting: Vec<ObjectRef> = self.unready().map(|(object, _)| object.clone()).collect();
        for object in waiting {
            // An explanation that fails or hangs must not end the wait.
            let look = tokio::time::timeout(Duration::from_secs(10), explain::explain(self.kube, &object));
            let Ok(Ok(problems)) = look.await else { continue };
            for problem in self.watchlist.update(&object, problems) {
                (self.on)(WaitEvent::Problem(problem));
            }
        }
        match self.watchlist.fatal(began.elapsed()) {
            Some(problem) => Err(cannot_recover(problem).into()),
            None => Ok(()),
        }
    }

    fn unready(&self) -> impl Iterator<Item = &(ObjectRef, Option<Readiness>)> {
        self.states.iter().filter(|(_, state)| !state.as_ref().is_some_and(Readiness::is_ready))
    }

    fn too_late(&self) -> Failure {
        let waiting: Vec<String> = self
            .unready()
            .map(|(object, state)| match state {
                Some(state) if !state.detail().is_empty() => format!("{object}: {}", state.detail()),
                _ => object.to_string(),
            })
            .collect();
        let mut message = format!("not ready in time: {}", waiting.join("; "));
        let mut failure = timed_out("");
        for problem in self.watchlist.problems() {
            message.push_str(&format!("; {}", problem.sentence()));
            if let Some(remedy) = &problem.remedy {
                failure = failure.remedy(remedy);
            }
        }
        failure.message = message;
        failure.remedy("run the same command again: it goes on where it stopped; --timeout gives it longer")
    }
}

fn cannot_recover(problem: &Problem) -> Failure {
    let failure = failed(problem.sentence());
    match &problem.remedy {
        Some(remedy) => failure.remedy(remedy),
        None => failure,
    }
}

/// The readiness of what exists: a kind without a state of its own is ready then.
fn state_of(object: &DynamicObject) -> Readiness {
    readiness(object).unwrap_or_else(|| Readiness::Ready(String::new()))
}

fn absent() -> Readiness {
    Readiness::Progressing("does not exist".into())
}

enum Seen {
    Object(ObjectRef, Readiness),
    /// A list is complete; the names that it had.
    Listed(Vec<ObjectRef>, Vec<String>),
    Error(watcher::Error),
}

fn seen(
    event: watcher::Result<watcher::Event<DynamicObject>>,
    group: &[ObjectRef],
    present: &mut Vec<String>,
) -> Option<Seen> {
    let member =
        |object: &DynamicObject| group.iter().find(|member| object.metadata.name.as_ref() == Some(&member.name));
    let of = |object: &mut DynamicObject, member: &ObjectRef| {
        object.types =
            Some(kube::core::TypeMeta { api_version: member.api_version.clone(), kind: member.kind.clone() });
        Seen::Object(member.clone(), state_of(object))
    };
    match event {
        Ok(watcher::Event::Init) => {
            present.clear();
            None
        }
        Ok(watcher::Event::InitApply(mut object)) => {
            let member = member(&object)?;
            present.push(member.name.clone());
            Some(of(&mut object, member))
        }
        Ok(watcher::Event::InitDone) => Some(Seen::Listed(group.to_vec(), std::mem::take(present))),
        Ok(watcher::Event::Apply(mut object)) => member(&object).map(|member| of(&mut object, member)),
        Ok(watcher::Event::Delete(object)) => member(&object).map(|member| Seen::Object(member.clone(), absent())),
        Err(error) => Some(Seen::Error(error)),
    }
}
