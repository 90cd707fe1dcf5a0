//! Runs tasks that depend on each other, side by side where that helps.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc;

use anyhow::{Result, anyhow, bail};

/// What a task uses up; tasks of different lanes run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Keeps every core busy by itself.
    Cores,
    /// Waits for the network.
    Network,
    /// Works inside the container engine.
    Engine,
}

impl Lane {
    /// How many of its tasks run at a time.
    fn slots(self) -> usize {
        match self {
            Self::Cores | Self::Engine => 1,
            Self::Network => 3,
        }
    }
}

/// One piece of work.
pub struct Task<'a> {
    /// Unique among the tasks.
    pub name: String,
    /// Names of the tasks that must be done before.
    pub after: Vec<String>,
    /// What it uses up.
    pub lane: Lane,
    /// The work.
    pub work: Box<dyn FnOnce() -> Result<()> + Send + 'a>,
}

/// Runs every task, in their order where nothing else decides. After a failure nothing new is
/// started; what runs is waited for.
///
/// # Errors
/// The first failure, with the task's name; or when the tasks wait for each other or for one that
/// is not there.
pub fn run(tasks: Vec<Task<'_>>) -> Result<()> {
    let mut waiting = tasks;
    let mut done: HashSet<String> = HashSet::new();
    let mut busy: HashMap<Lane, usize> = HashMap::new();
    let (send, receive) = mpsc::channel::<(String, Lane, Result<()>)>();
    let mut failure = None;
    std::thread::scope(|scope| {
        loop {
            let ready = |task: &Task<'_>, busy: &HashMap<Lane, usize>| {
                task.after.iter().all(|name| done.contains(name))
                    && busy.get(&task.lane).copied().unwrap_or(0) < task.lane.slots()
            };
            while failure.is_none()
                && let Some(at) = waiting.iter().position(|task| ready(task, &busy))
            {
                let Task { name, lane, work, .. } = waiting.remove(at);
                *busy.entry(lane).or_default() += 1;
                let send = send.clone();
                scope.spawn(move || {
                    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
                        .unwrap_or_else(|_| Err(anyhow!("it panicked")));
                    // The receiver lives until every task has answered.
                    let _ = send.send((name, lane, result));
                });
            }
            if busy.values().sum::<usize>() == 0 {
                break;
            }
            let Ok((name, lane, result)) = receive.recv() else { break };
            *busy.entry(lane).or_default() -= 1;
            match result {
                Ok(()) => {
                    done.insert(name);
                }
                Err(error) => {
                    let error = error.context(name);
                    failure.get_or_insert(error);
                }
            }
        }
    });
    if let Some(error) = failure {
        return Err(error);
    }
    if !waiting.is_empty() {
        let names: Vec<&str> = waiting.iter().map(|task| task.name.as_str()).collect();
        bail!("these wait for each other or for what is not there: {}", names.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn task<'a>(name: &str, after: &[&str], lane: Lane, work: impl FnOnce() -> Result<()> + Send + 'a) -> Task<'a> {
        Task { name: name.into(), after: after.iter().map(|&name| name.into()).collect(), lane, work: Box::new(work) }
    }

    #[test]
    fn a_task_runs_after_what_it_depends_on() {
        let order = Mutex::new(Vec::new());
        let mark = |name: &'static str| {
            order.lock().unwrap().push(name);
            Ok(())
        };
        run(vec![
            task("c", &["a", "b"], Lane::Engine, || mark("c")),
            task("b", &["a"], Lane::Network, || mark("b")),
            task("a", &[], Lane::Cores, || mark("a")),
        ])
        .unwrap();
        assert_eq!(*order.lock().unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn a_lane_holds_no_more_than_its_slots() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = || {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(5));
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        };
        let tasks = (0..8).map(|i| task(&i.to_string(), &[], Lane::Network, work)).collect();
        run(tasks).unwrap();
        assert_eq!(most.load(Ordering::SeqCst), Lane::Network.slots());
    }

    #[test]
    fn after_a_failure_nothing_new_starts_and_it_is_named() {
        let error = run(vec![
            task("bad", &[], Lane::Cores, || Err(anyhow!("why"))),
            task("next", &[], Lane::Cores, || panic!("must not start")),
        ])
        .unwrap_err();
        assert_eq!(format!("{error:#}"), "bad: why");
    }

    #[test]
    fn a_panic_is_a_failure_of_its_task() {
        let error = run(vec![task("bad", &[], Lane::Cores, || panic!("oh"))]).unwrap_err();
        assert_eq!(format!("{error:#}"), "bad: it panicked");
    }

    #[test]
    fn tasks_that_can_never_start_are_an_error() {
        let error = run(vec![task("a", &["b"], Lane::Cores, || Ok(()))]).unwrap_err();
        assert!(error.to_string().contains(": a"), "{error}");
    }
}
