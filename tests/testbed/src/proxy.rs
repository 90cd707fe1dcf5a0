//! A TCP proxy before the database, as the network between pods is: it can be cut, delayed,
//! swallowed, or lead to another server from one moment to the next.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

#[derive(Debug, Default)]
struct State {
    target: AtomicU16,
    /// New connections are refused and open ones closed.
    cut: AtomicBool,
    /// Nobody listens, as where a Service leads nowhere.
    refuse: AtomicBool,
    /// Each piece of data waits this long, in milliseconds.
    delay: AtomicU32,
    /// Nothing gets through, nothing is closed.
    swallow: AtomicBool,
    /// Connections made before this generation are swallowed for good.
    frozen_before: AtomicU64,
    made: AtomicU64,
    ended: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

/// The proxy, ended with the value.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    state: Arc<State>,
}

impl Proxy {
    /// To a server on 127.0.0.1.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn to(target: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State::default());
        state.target.store(target, SeqCst);
        let shared = Arc::clone(&state);
        std::thread::spawn(move || listen(listener, port, &shared));
        Ok(Self { port, state })
    }

    /// Cuts all connections and refuses new ones, or stops doing so.
    pub fn cut(&self, on: bool) {
        self.state.cut.store(on, SeqCst);
        if on {
            self.close_open();
        }
    }

    /// Stops listening, so that new connections are refused by the kernel, or listens again.
    pub fn refuse(&self, on: bool) {
        self.state.refuse.store(on, SeqCst);
        self.wake();
    }

    /// Makes every piece of data wait.
    pub fn delay(&self, by: Duration) {
        self.state.delay.store(u32::try_from(by.as_millis()).unwrap_or(u32::MAX), SeqCst);
    }

    /// Lets nothing through and closes nothing, or stops doing so.
    pub fn swallow(&self, on: bool) {
        self.state.swallow.store(on, SeqCst);
    }

    /// Swallows all that is sent on the connections open now, for good; new ones work.
    pub fn freeze_open(&self) {
        self.state.frozen_before.store(self.state.made.load(SeqCst), SeqCst);
    }

    /// Leads new connections to another server and closes those to the old one.
    pub fn switch(&self, target: u16) {
        self.state.target.store(target, SeqCst);
        self.close_open();
    }

    /// Leads new connections to another server and leaves the open ones as they are.
    pub fn lead_new_to(&self, target: u16) {
        self.state.target.store(target, SeqCst);
    }

    /// The number of connections that have reached a server so far.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.state.made.load(SeqCst)
    }

    /// Wakes the listener, if there is one.
    fn wake(&self) {
        let _ = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], self.port)));
    }

    fn close_open(&self) {
        let mut open = self.state.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, SeqCst);
        self.close_open();
        self.wake();
    }
}

fn listen(first: TcpListener, port: u16, state: &Arc<State>) {
    let mut listener = Some(first);
    while !state.ended.load(SeqCst) {
        match listener.take() {
            Some(listener) => accept(&listener, state),
            None => std::thread::sleep(Duration::from_millis(2)),
        }
        if !state.refuse.load(SeqCst) {
            listener = TcpListener::bind(("127.0.0.1", port)).ok();
        }
    }
}

/// Accepts until nobody is to listen.
fn accept(listener: &TcpListener, state: &Arc<State>) {
    for client in listener.incoming().flatten() {
        if state.ended.load(SeqCst) || state.refuse.load(SeqCst) {
            return;
        }
        if state.cut.load(SeqCst) {
            continue;
        }
        let target = SocketAddr::from(([127, 0, 0, 1], state.target.load(SeqCst)));
        let Ok(server) = TcpStream::connect(target) else { continue };
        let number = state.made.fetch_add(1, SeqCst);
        // One of the two that is gone already carries nothing.
        let _ = carry(&client, &server, state, number);
    }
}

fn carry(client: &TcpStream, server: &TcpStream, state: &Arc<State>, number: u64) -> std::io::Result<()> {
    let ends = [client.try_clone()?, server.try_clone()?];
    state.open.lock().unwrap_or_else(PoisonError::into_inner).extend(ends);
    for (from, to) in [(client, server), (server, client)] {
        let (from, to, state) = (from.try_clone()?, to.try_clone()?, Arc::clone(state));
        std::thread::spawn(move || pump(from, to, &state, number));
    }
    Ok(())
}

fn pump(mut from: TcpStream, mut to: TcpStream, state: &State, number: u64) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let delay = state.delay.load(SeqCst);
        if delay > 0 {
            std::thread::sleep(Duration::from_millis(delay.into()));
        }
        let held = || state.swallow.load(SeqCst) || number < state.frozen_before.load(SeqCst);
        while held() && !state.ended.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(10));
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
