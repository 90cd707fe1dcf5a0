//! A user at the web app: a connection that is kept for a visit, and what a visit asks for.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, body::Bytes, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// The requests of a visit. Then the user leaves, and the next one comes on a connection of its own: the Service
/// chooses a pod by connection, and pods that are new get their share only of new ones.
const VISIT: u32 = 10;
/// The time after which an idle connection is not used again: its server may be closing it at this moment.
const IDLE: Duration = Duration::from_secs(1);
/// The time that a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);
/// The bytes of an answer at most.
const ANSWER: usize = 1 << 20;

/// An action that a user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The page with the newest users.
    Page,
    /// One user, by the API.
    Read(i64),
    /// The registration of a user, with this number.
    Register(u64),
    /// A change of that user, with this number.
    Change(i64, u64),
}

/// The web Service that users go to, and the run that marks what they register.
#[derive(Debug)]
pub struct Site {
    /// `name:port`.
    pub host: String,
    /// A Service's address stays.
    pub address: SocketAddr,
    /// A part of every name that is registered.
    pub run: String,
}

impl Site {
    fn request(&self, action: Action) -> Result<Request<Full<Bytes>>> {
        let (method, path, number) = match action {
            Action::Page => (Method::GET, "/users".to_owned(), None),
            Action::Read(id) => (Method::GET, format!("/api/v1/users/{id}"), None),
            Action::Register(n) => (Method::POST, "/api/v1/users".to_owned(), Some(n)),
            Action::Change(id, n) => (Method::PUT, format!("/api/v1/users/{id}"), Some(n)),
        };
        let request = Request::builder().method(method).uri(path).header(header::HOST, &self.host);
        let Some(number) = number else { return Ok(request.body(Full::default())?) };
        let name = format!("{}-{number}", self.run);
        let body = format!(r#"{{"name":"{name}","email":"{name}@load.invalid","gender":"undisclosed"}}"#);
        let request = request.header(header::CONTENT_TYPE, "application/json").header("Idempotency-Key", &name);
        Ok(request.body(Full::new(body.into()))?)
    }
}

/// The part of a registered user's JSON that is of interest.
#[derive(Debug, Deserialize)]
struct Registered {
    id: i64,
}

/// A visit: a connection, and how many requests are left.
#[derive(Debug)]
pub struct Visit {
    sender: SendRequest<Full<Bytes>>,
    left: u32,
    used: Instant,
}

impl Visit {
    /// Begins a visit: connects.
    pub async fn begin(site: &Site) -> Result<Self> {
        let connecting = tokio::time::timeout(CONNECT, TcpStream::connect(site.address)).await;
        let socket = connecting.context("no connection in time")?.context("no connection")?;
        socket.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(socket)).await?;
        // It ends when the sender is dropped, or with the error that the request gets, too.
        tokio::spawn(connection);
        Ok(Self { sender, left: VISIT, used: Instant::now() })
    }

    /// Tells whether another request may go in this visit.
    pub fn goes_on(&self) -> bool {
        self.left > 0 && self.used.elapsed() < IDLE && !self.sender.is_closed()
    }

    /// Asks, and waits for the whole answer. The id of a user that was registered comes back.
    pub async fn ask(&mut self, site: &Site, action: Action) -> Result<Option<i64>> {
        self.left = self.left.saturating_sub(1);
        self.sender.ready().await?;
        let response = self.sender.send_request(site.request(action)?).await?;
        let (status, closing) = (response.status().as_u16(), response.headers().get(header::CONNECTION).cloned());
        let body = Limited::new(response.into_body(), ANSWER).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("half an answer: {error}"))?.to_bytes();
        self.used = Instant::now();
        if closing.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close")) {
            self.left = 0;
        }
        let expected = if matches!(action, Action::Register(_)) { 201 } else { 200 };
        if status != expected {
            bail!("HTTP {status}");
        }
        if expected != 201 {
            return Ok(None);
        }
        let registered: Registered = serde_json::from_slice(&body).context("the answer is no user")?;
        Ok(Some(registered.id))
    }
}
