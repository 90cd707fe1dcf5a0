//! Registrations through the web Service. Each comes on a connection of its own, as from another user: the
//! Service's choice of a pod is a part of what is tried.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, body::Bytes, header};
use hyper_util::rt::TokioIo;
use stackctl_protocol::probe::Outcome;
use tokio::net::TcpStream;

/// The time that a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);
/// The bytes of an answer at most.
const ANSWER: usize = 64 * 1024;

/// The way to the web app.
pub struct Web {
    host: String,
    /// A Service's address stays; the name service may be down together with the primary.
    address: SocketAddr,
}

impl Web {
    /// Looks the Service's address up; `host` is `name:port`.
    pub async fn new(host: &str) -> Result<Arc<Self>> {
        let address = super::address_of(host).await.with_context(|| format!("looking up {host}"))?;
        Ok(Arc::new(Self { host: host.to_owned(), address }))
    }

    /// Registers a user, once.
    pub async fn write(&self, run: &str, key: u64) -> Outcome {
        let socket = match tokio::time::timeout(CONNECT, TcpStream::connect(self.address)).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => return Outcome::Refused { why: format!("cannot connect: {error}") },
            Err(_) => return Outcome::Refused { why: format!("cannot connect within {} s", CONNECT.as_secs()) },
        };
        match self.exchange(socket, run, key).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Unknown { why: error.root_cause().to_string() },
        }
    }

    async fn exchange(&self, socket: TcpStream, run: &str, key: u64) -> Result<Outcome> {
        socket.set_nodelay(true)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        let driver = tokio::spawn(connection);
        let name = format!("{run}-{key}");
        let body = format!(r#"{{"name":"{name}","email":"{name}@drill.invalid","gender":"undisclosed"}}"#);
        let request = Request::post("/api/v1/users")
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close")
            .header("Idempotency-Key", &name)
            .body(Full::new(Bytes::from(body)))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        // Only a complete answer is one.
        Limited::new(response.into_body(), ANSWER).collect().await.map_err(|error| anyhow::anyhow!("{error}"))?;
        driver.abort();
        Ok(outcome(status))
    }
}

/// The outcome that a status means. A success is a promise; of the refusals only those are certain that the app gives
/// before it asks the database, or because of what the database says about the content.
fn outcome(status: StatusCode) -> Outcome {
    let why = format!("HTTP {}", status.as_u16());
    match status.as_u16() {
        200..=299 => Outcome::Acknowledged { place: None },
        400..=407 | 409..=424 | 426..=499 => Outcome::Refused { why },
        _ => Outcome::Unknown { why },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_error_settles_nothing() {
        assert_eq!(outcome(StatusCode::CREATED), Outcome::Acknowledged { place: None });
        for status in [StatusCode::CONFLICT, StatusCode::UNPROCESSABLE_ENTITY, StatusCode::TOO_MANY_REQUESTS] {
            assert!(matches!(outcome(status), Outcome::Refused { .. }), "{status}");
        }
        for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::INTERNAL_SERVER_ERROR, StatusCode::BAD_GATEWAY] {
            assert!(matches!(outcome(status), Outcome::Unknown { .. }), "{status}");
        }
        assert!(matches!(outcome(StatusCode::REQUEST_TIMEOUT), Outcome::Unknown { .. }));
    }
}
