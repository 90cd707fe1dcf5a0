//! The deadline of every request that is answered in one piece, whoever sends it: one that a typed API sends has it like
//! one of the connection's own. What streams has none: watches, logs that are followed, and upgraded connections.

use std::{
    io,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http_body_util::{BodyExt, Collected, Either};
use kube::client::Body;
use tower::{BoxError, Layer, Service};

/// Gives requests a deadline.
pub(super) struct Deadline(pub Duration);

impl<S> Layer<S> for Deadline {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner, limit: self.0 }
    }
}

/// A service whose requests have a deadline, the reading of the answer included.
pub(super) struct Limited<S> {
    inner: S,
    limit: Duration,
}

impl<S, B> Service<http::Request<Body>> for Limited<S>
where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: BodyExt + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = http::Response<Either<Collected<B::Data>, B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let limit = self.limit;
        let streams = is_stream(&request);
        let what = format!("{} {}", request.method(), request.uri().path());
        let answer = self.inner.call(request);
        Box::pin(async move {
            if streams {
                return Ok(answer.await?.map(Either::Right));
            }
            let whole = async {
                let (head, body) = answer.await?.into_parts();
                Ok(http::Response::from_parts(head, Either::Left(body.collect().await.map_err(Into::into)?)))
            };
            match tokio::time::timeout(limit, whole).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    let late = format!("no answer to {what} within {} s", limit.as_secs());
                    Err(io::Error::new(io::ErrorKind::TimedOut, late).into())
                }
            }
        })
    }
}

/// Whether the answer to a request comes bit by bit, for as long as its reader likes.
fn is_stream<B>(request: &http::Request<B>) -> bool {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let asked = query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1" | "follow=true"));
    let last = path.rsplit('/').next().unwrap_or_default();
    asked
        || request.headers().contains_key(http::header::UPGRADE)
        || matches!(last, "exec" | "attach" | "portforward" | "log")
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    fn request(path: &str) -> http::Request<Body> {
        http::Request::get(path).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn a_request_that_is_never_answered_ends_and_a_stream_does_not() {
        let silent =
            service_fn(|_: http::Request<Body>| std::future::pending::<Result<http::Response<Body>, BoxError>>());
        let mut limited = Deadline(Duration::from_millis(20)).layer(silent);
        let error = limited.ready().await.unwrap().call(request("/api/v1/pods")).await.err().unwrap();
        assert_eq!(error.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("GET /api/v1/pods"), "{error}");
        let watch = limited.ready().await.unwrap().call(request("/api/v1/pods?watch=true&timeoutSeconds=290"));
        assert!(tokio::time::timeout(Duration::from_millis(100), watch).await.is_err(), "it goes on");
    }

    #[test]
    fn what_streams_is_known_by_its_address_or_its_upgrade() {
        let pod = "/api/v1/namespaces/n/pods/p";
        for path in ["/exec?command=ls", "/attach", "/portforward?ports=80", "/log?follow=true", "/log"] {
            assert!(is_stream(&request(&format!("{pod}{path}"))), "{path}");
        }
        assert!(is_stream(&request("/api/v1/pods?limit=5&watch=true")));
        assert!(is_stream(&http::Request::get("/x").header("upgrade", "websocket").body(()).unwrap()));
        for path in ["", "/eviction", "?fieldManager=watch", "/status"] {
            assert!(!is_stream(&request(&format!("{pod}{path}"))), "{path}");
        }
    }
}
