//! A port of this machine that leads to a Service in the cluster.
//!
//! Each connection goes to one of the pods that are ready at that moment, so it survives their replacement:
//! what is open to a pod that goes breaks, and the next connection finds another one.

mod target;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::Portforwarder};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

pub use target::ForwardTarget;

use crate::{error::Result, poll::Tries};

/// For how long a connection waits for a pod to become ready.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);
/// A question to the API server takes milliseconds. One that takes this long is lost, e.g. on a connection
/// that did not survive a sleep of this machine: the next is asked on another one.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How often it is looked whether this machine has slept.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The clock on the wall went on for so much longer than this process: the machine slept.
const SLEEP: Duration = Duration::from_secs(15);
/// Connections to pods that are being made at the same time: each takes a TLS handshake of the API server, and
/// more of them at once take longer, all together.
const OPENING: usize = 8;

/// Bytes that are copied at once.
const COPY: usize = 64 * 1024;

/// What is told while forwarding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardEvent {
    /// A connection goes to this pod.
    Connected {
        /// The pod's name.
        pod: String,
    },
    /// A pod that connections went to is not ready any more, or gone; this one goes to another.
    Moved {
        /// The pod that connections went to.
        from: String,
        /// The pod that this one goes to.
        to: String,
    },
    /// A connection waits for a ready pod, for this reason.
    Waiting(String),
    /// A connection came to nothing, for this reason; the next one is tried anew.
    Failed(String),
    /// This machine slept for so long. What was open then was closed: its other end may be gone.
    Slept(Duration),
}

/// A local port that leads into the cluster until it is dropped; open connections end with it.
#[derive(Debug)]
pub struct Forwarder {
    address: SocketAddr,
    counts: Arc<Counts>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    made: AtomicU64,
    open: AtomicU64,
}

impl Forwarder {
    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections came so far, and how many of them are open.
    pub fn connections(&self) -> (u64, u64) {
        (self.counts.made.load(Ordering::Relaxed), self.counts.open.load(Ordering::Relaxed))
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

type OnForward = dyn Fn(ForwardEvent) + Send + Sync;

/// Leads each connection that `listener` gets to a ready pod of `target`, until the [`Forwarder`] is dropped.
///
/// # Errors
/// The listener has no address, which does not happen to one that listens.
pub fn forward(
    target: ForwardTarget,
    listener: TcpListener,
    on: impl Fn(ForwardEvent) + Send + Sync + 'static,
) -> Result<Forwarder> {
    let address = listener.local_addr()?;
    let counts = Arc::new(Counts::default());
    let opening = Semaphore::new(OPENING);
    let way = Way { target, counts: Arc::clone(&counts), opening, on: Box::new(on) };
    Ok(Forwarder { address, counts, accepting: tokio::spawn(accept(listener, Arc::new(way))) })
}

struct Way {
    target: ForwardTarget,
    counts: Arc<Counts>,
    opening: Semaphore,
    on: Box<OnForward>,
}

async fn accept(listener: TcpListener, way: Arc<Way>) {
    // The connections end with this task.
    let mut connections = JoinSet::new();
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut before = (SystemTime::now(), Instant::now());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let way = Arc::clone(&way);
                    connections.spawn(async move {
                        let _open = Open::count(&way.counts);
                        if let Err(why) = way.serve(stream).await {
                            (way.on)(ForwardEvent::Failed(why));
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors: some are free again when connections end.
                    (way.on)(ForwardEvent::Failed(error.to_string()));
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = look.tick() => {
                let now = (SystemTime::now(), Instant::now());
                let wall = now.0.duration_since(before.0).unwrap_or_default();
                if let Some(slept) = slept(wall, now.1 - before.1) {
                    connections.abort_all();
                    (way.on)(ForwardEvent::Slept(slept));
                }
                before = now;
            }
        }
    }
}

/// For how long this machine slept: a process's own clock stands still meanwhile.
fn slept(wall: Duration, own: Duration) -> Option<Duration> {
    wall.checked_sub(own).filter(|longer| *longer > SLEEP)
}

/// A connection that is counted as open.
struct Open<'a>(&'a Counts);

impl<'a> Open<'a> {
    fn count(counts: &'a Counts) -> Self {
        counts.made.fetch_add(1, Ordering::Relaxed);
        counts.open.fetch_add(1, Ordering::Relaxed);
        Open(counts)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Way {
    async fn serve(&self, mut local: TcpStream) -> std::result::Result<(), String> {
        // Small requests go out at once, as they would without us in between.
        local.set_nodelay(true).map_err(|error| error.to_string())?;
        let (pod, port, connection) = self.connect().await?;
        let mut connection = Connection(connection);
        let Some(mut remote) = connection.0.take_stream(port) else { return Err("no stream to the pod".into()) };
        let problem = connection.0.take_error(port);
        (self.on)(ForwardEvent::Connected { pod: pod.clone() });
        let refused = async {
            match problem {
                Some(problem) => match problem.await {
                    Some(why) => why,
                    // It ends without a word when the connection does: the copying says how.
                    None => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // One of the two sides is gone: that is how connections end.
            _ = tokio::io::copy_bidirectional_with_sizes(&mut local, &mut remote, COPY, COPY) => Ok(()),
            why = refused => Err(format!("pod {pod} does not take the connection: {}", why.trim())),
        }
    }

    /// A connection to a ready pod; waits for one.
    async fn connect(&self) -> std::result::Result<(String, u16, Portforwarder), String> {
        let (mut told, mut tries) = (false, Tries::within(PATIENCE, PAUSE));
        loop {
            let why = match self.try_connect().await {
                Ok(connected) => return Ok(connected),
                Err(why) => why,
            };
            if !told {
                (self.on)(ForwardEvent::Waiting(why.clone()));
                told = true;
            }
            if !tries.another().await {
                return Err(why);
            }
        }
    }

    async fn try_connect(&self) -> std::result::Result<(String, u16, Portforwarder), String> {
        let target = &self.target;
        let _turn = self.opening.acquire().await.map_err(|error| error.to_string())?;
        let ready = match timeout(ANSWER_WITHIN, target.ready()).await {
            Ok(Ok(ready)) => ready,
            Ok(Err(error)) => return Err(crate::error::one_line(&error)),
            Err(_) => return Err("the API server does not answer".into()),
        };
        let pods: Api<Pod> = target.api();
        let mut why = format!("{} has no ready pod", target.describe());
        for (pod, port) in target.in_turn(&ready) {
            match timeout(ANSWER_WITHIN, pods.portforward(pod, &[*port])).await {
                Ok(Ok(connection)) => {
                    for from in target.moved(pod, &ready) {
                        (self.on)(ForwardEvent::Moved { from, to: pod.clone() });
                    }
                    return Ok((pod.clone(), *port, connection));
                }
                Ok(Err(error)) => why = format!("cannot reach pod {pod}: {error}"),
                Err(_) => why = format!("cannot reach pod {pod}: the API server does not answer"),
            }
            target.forget().await;
        }
        Err(why)
    }
}

/// Ends the connection to the pod when dropped; by itself it goes on in the background.
struct Connection(Portforwarder);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_slept_is_told_from_a_clock_that_was_set() {
        let seconds = Duration::from_secs;
        assert_eq!(slept(seconds(605), seconds(5)), Some(seconds(600)));
        for (wall, own) in [(5, 5), (12, 5), (0, 5), (65, 65)] {
            assert_eq!(slept(seconds(wall), seconds(own)), None, "{wall} {own}");
        }
    }
}
