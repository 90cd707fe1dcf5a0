//! HTTP for the store. A store may have died with its node: a connection that is not made in two seconds is given up,
//! one that falls silent soon after, and how the last request ended is remembered for the exit code.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout, timeout_at};
use tokio_rustls::TlsConnector;

/// The time in which a store is to be reached at all, name and TLS included and however often it is tried.
pub const REACHED_WITHIN: Duration = Duration::from_secs(2);
/// A peer that does not confirm what it was sent is gone.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(5);
/// A kept connection is ready again at once, when the answer before has been read to its end.
const READY_WITHIN: Duration = Duration::from_millis(100);
/// The slowest upload that is waited for, in bytes a second.
const SLOWEST: u32 = 64 << 10;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// With an answer, of this status.
    Status(u16),
    /// The store was not reached.
    Unreachable,
    /// Its certificate is not one that is trusted here.
    Untrusted,
    /// The connection broke or fell silent.
    Broken,
}

/// Connections to the store, and to whoever gives out the credentials for it.
#[derive(Debug, Clone)]
pub struct Http(Arc<Shared>);

struct Shared {
    patience: Duration,
    bundle: Option<PathBuf>,
    tls: OnceLock<Result<Arc<ClientConfig>, String>>,
    peers: Mutex<HashMap<(bool, Authority), Peer>>,
    last: Mutex<Option<Answer>>,
}

/// A host and port.
#[derive(Default)]
struct Peer {
    /// When to give up, since it was first tried; nothing once it was reached.
    give_up: Option<Instant>,
    /// A connection that nothing is asked on.
    idle: Option<SendRequest<HttpRequestBody>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("patience", &self.patience).finish_non_exhaustive()
    }
}

/// A stream of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Http {
    /// Waits `patience` for an answer to begin and to go on. The certificates are those in `bundle`, or this machine's.
    pub fn new(patience: Duration, bundle: Option<PathBuf>) -> Self {
        Self(Arc::new(Shared {
            patience,
            bundle,
            tls: OnceLock::new(),
            peers: Mutex::default(),
            last: Mutex::default(),
        }))
    }

    /// How the last request ended; nothing before there was one.
    pub fn last_answer(&self) -> Option<Answer> {
        *lock(&self.0.last)
    }
}

impl HttpConnector for Http {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Http {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let result = self.0.exchange(request).await;
        let answer = match &result {
            Ok(response) => Answer::Status(response.status().as_u16()),
            Err(error) if is_untrusted(error) => Answer::Untrusted,
            Err(error) if error.kind() == HttpErrorKind::Connect => Answer::Unreachable,
            Err(_) => Answer::Broken,
        };
        *lock(&self.0.last) = Some(answer);
        result
    }
}

impl Shared {
    async fn exchange(self: &Arc<Self>, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let uri = std::mem::take(request.uri_mut());
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(HttpError::new(HttpErrorKind::Unknown, io::Error::other(format!("{uri} is no address"))));
        };
        let secure = *scheme == Scheme::HTTPS;
        let peer = (secure, authority.clone());
        let mut sender = match self.kept(&peer).await {
            Some(sender) => sender,
            None => self.connect(&peer).await.map_err(|error| HttpError::new(HttpErrorKind::Connect, error))?,
        };
        // The signature is made for the host without the port that goes without saying.
        let usual = if secure { 443 } else { 80 };
        let host = authority.port_u16().filter(|port| *port != usual);
        let host = host.map_or_else(|| authority.host().to_owned(), |port| format!("{}:{port}", authority.host()));
        if let Ok(host) = HeaderValue::from_str(&host) {
            request.headers_mut().insert(HOST, host);
        }
        *request.uri_mut() = Uri::from(uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")));

        let upload = u32::try_from(request.body().content_length()).unwrap_or(u32::MAX) / SLOWEST;
        let patience = self.patience + Duration::from_secs(upload.into());
        let answered = timeout(patience, sender.send_request(request)).await;
        let response = answered.map_err(|_| silent(patience))?.map_err(|error| {
            let kind = if error.is_canceled() { HttpErrorKind::Request } else { HttpErrorKind::Interrupted };
            HttpError::new(kind, error)
        })?;
        lock(&self.peers).entry(peer).or_default().idle = Some(sender);
        let (parts, body) = response.into_parts();
        let body =
            Watched { body, patience: self.patience, silence: Box::pin(sleep(self.patience)), shared: self.clone() };
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }

    async fn kept(&self, peer: &(bool, Authority)) -> Option<SendRequest<HttpRequestBody>> {
        let mut sender = lock(&self.peers).get_mut(peer)?.idle.take()?;
        matches!(timeout(READY_WITHIN, sender.ready()).await, Ok(Ok(()))).then_some(sender)
    }

    async fn connect(&self, peer: &(bool, Authority)) -> io::Result<SendRequest<HttpRequestBody>> {
        let now = Instant::now();
        let give_up = *lock(&self.peers).entry(peer.clone()).or_default().give_up.get_or_insert(now + REACHED_WITHIN);
        let sender = timeout_at(give_up, self.try_to_connect(peer, give_up)).await.map_err(|_| {
            let text = format!("Could not connect to {} within {REACHED_WITHIN:?}", peer.1);
            io::Error::new(io::ErrorKind::TimedOut, text)
        })??;
        lock(&self.peers).entry(peer.clone()).or_default().give_up = None;
        Ok(sender)
    }

    async fn try_to_connect(
        &self,
        (secure, authority): &(bool, Authority),
        give_up: Instant,
    ) -> io::Result<SendRequest<HttpRequestBody>> {
        let host = authority.host().trim_matches(['[', ']']);
        let port = authority.port_u16().unwrap_or(if *secure { 443 } else { 80 });
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("Could not connect to {authority}: {error}"));
        let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await.map_err(named)?.collect();
        let stream = tcp(&addresses, give_up).await.map_err(named)?;
        let stream: Box<dyn Stream> = if *secure {
            let tls = self.tls.get_or_init(|| crate::trust::settings(self.bundle.as_deref()));
            let tls = tls.clone().map_err(io::Error::other)?;
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            Box::new(TlsConnector::from(tls).connect(name, stream).await?)
        } else {
            Box::new(stream)
        };
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // It ends with its sender, and what goes wrong is told there.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// The first of the addresses that answers; each has its share of the time that is left.
async fn tcp(addresses: &[SocketAddr], give_up: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (at, address) in addresses.iter().enumerate() {
        let share =
            give_up.saturating_duration_since(Instant::now()) / u32::try_from(addresses.len() - at).unwrap_or(1);
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                watch(&stream)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "no answer"),
        }
    }
    Err(last)
}

/// Has the kernel notice a peer that is gone, while it is sent to and while it is waited for.
fn watch(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_tcp_user_timeout(stream, u32::try_from(CONFIRMED_WITHIN.as_millis()).unwrap_or(u32::MAX))?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(1))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(1))?;
    Ok(sockopt::set_tcp_keepcnt(stream, 4)?)
}

/// The body of an answer, that has to go on coming.
struct Watched {
    body: Incoming,
    patience: Duration,
    silence: Pin<Box<Sleep>>,
    shared: Arc<Shared>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        let broken = match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Err(error))) => HttpError::new(HttpErrorKind::Interrupted, error),
            Poll::Ready(frame) => {
                this.silence.as_mut().reset(Instant::now() + this.patience);
                return Poll::Ready(
                    frame.map(|frame| frame.map_err(|never| HttpError::new(HttpErrorKind::Unknown, never))),
                );
            }
            Poll::Pending if this.silence.as_mut().poll(cx).is_ready() => silent(this.patience),
            Poll::Pending => return Poll::Pending,
        };
        *lock(&this.shared.last) = Some(Answer::Broken);
        Poll::Ready(Some(Err(broken)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn silent(patience: Duration) -> HttpError {
    let error = io::Error::new(io::ErrorKind::TimedOut, format!("Read timeout: nothing came for {patience:?}"));
    HttpError::new(HttpErrorKind::Timeout, error)
}

fn is_untrusted(error: &HttpError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(rustls::Error::InvalidCertificate(_)) = inner.and_then(|inner| inner.downcast_ref()) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
