//! The guard that every request passes through: bounds, rate limit, time limit, headers, log, counts.

use std::time::{Duration, Instant};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage, HttpRequest, HttpResponse};
use sha2::{Digest, Sha256};

use super::media;
use crate::app::{App, Shared};
use crate::front;
use crate::problem::Problem;
use crate::rate::network;
use crate::security::{self, MAX_URI, random_id};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The time for a body that comes slowly, on top of the time that the database has.
const BODY_TIME: Duration = Duration::from_secs(5);

/// The one middleware: guards a request, and counts and logs its answer.
pub async fn guard(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    let Some(app) = req.app_data::<Data<App>>().cloned() else {
        // Only where the application is put together wrongly.
        return Err(actix_web::error::ErrorInternalServerError("no application"));
    };
    let shared = &app.shared;
    let id = request_id(req.request());
    req.extensions_mut().insert(RequestId(id.clone()));
    shared.metrics.in_flight.add(1);
    let in_flight = InFlight(shared);
    let mut response = match refuse(shared, &req) {
        Some(refusal) => req.into_response(refusal),
        None => {
            // Not the request: a second handle on it would be in the router's way.
            let path = req.path().to_owned();
            match tokio::time::timeout(shared.config.deadline + BODY_TIME, next.call(req)).await {
                Ok(answer) => answer?.map_into_boxed_body(),
                Err(_) => {
                    let text = "The request was not complete in time.";
                    let mut late = super::error(shared, &path, StatusCode::REQUEST_TIMEOUT, text);
                    security::add_headers(late.headers_mut());
                    tracing::warn!(id, path, "request not complete in time");
                    return Err(InternalError::from_response("late", late).into());
                }
            }
        }
    };
    let draining = shared.is_draining();
    let head = response.response_mut().head_mut();
    if draining {
        head.set_connection_type(actix_web::http::ConnectionType::Close);
    }
    security::add_headers(&mut head.headers);
    if let Ok(value) = HeaderValue::from_str(&id) {
        head.headers.insert(REQUEST_ID, value);
    }
    drop(in_flight);
    record(shared, &response, &id, started);
    Ok(response)
}

/// A request in flight: it is counted down also when the client goes away and the request is dropped.
struct InFlight<'a>(&'a Shared);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.metrics.in_flight.add(-1);
    }
}

/// The id under which a request is found in the log.
#[derive(Debug)]
struct RequestId(String);

/// The id of a request that has passed the guard.
pub fn id_of(req: &HttpRequest) -> String {
    req.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default()
}

/// The id that the caller gave, if it can be put into a log safely, else a new one.
fn request_id(req: &HttpRequest) -> String {
    let sane = |id: &&str| (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    req.headers().get(REQUEST_ID).and_then(|v| v.to_str().ok()).filter(sane).map_or_else(random_id, str::to_owned)
}

fn is_probe(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz")
}

fn refuse(shared: &Shared, req: &ServiceRequest) -> Option<HttpResponse> {
    let path = req.path();
    if req.uri().path_and_query().is_some_and(|p| p.as_str().len() > MAX_URI) {
        return Some(super::error(shared, path, StatusCode::URI_TOO_LONG, "The address is too long."));
    }
    if !security::headers_fit(req.headers()) {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Some(super::error(shared, path, status, "The headers are too large."));
    }
    if is_probe(path) {
        return None;
    }
    let writes = !req.method().is_safe();
    if let Some(wait) =
        front::client(req.request(), &shared.config).and_then(|client| shared.limiter.admit(client, writes).err())
    {
        shared.metrics.rate_limited.inc();
        if super::is_api(path) {
            return Some(Problem::too_many(wait).response());
        }
        let text = "Too many requests came from your address. Please wait a few seconds.";
        let mut page = super::error(shared, path, StatusCode::TOO_MANY_REQUESTS, text);
        page.headers_mut().insert(header::RETRY_AFTER, wait.into());
        return Some(page);
    }
    if let Some(place) = front::by_https(req.request(), &shared.config) {
        // With its method and body, and not kept by the browser: the app may lose its certificate again.
        return Some(HttpResponse::PermanentRedirect().insert_header((header::LOCATION, place)).finish());
    }
    let kind = content_of(req)?;
    if media::is_acceptable(req.headers(), kind) {
        return None;
    }
    let text = format!("What is here is {kind}, which this request does not accept.");
    Some(super::error(shared, path, StatusCode::NOT_ACCEPTABLE, &text))
}

/// The media type of what a request is answered with, where it is one that the request may refuse. Who removes
/// something gets nothing, and who sends a form is led to a page.
fn content_of(req: &ServiceRequest) -> Option<&'static str> {
    let route = req.match_pattern()?;
    match *req.method() {
        Method::GET | Method::HEAD | Method::POST | Method::PUT if super::is_api(&route) => Some("application/json"),
        Method::GET | Method::HEAD if route.starts_with("/users") || route == "/info" => Some("text/html"),
        _ => None,
    }
}

/// The client's name beside its idempotency keys: a digest, as nobody needs to read the address there.
pub fn client_name(req: &HttpRequest, shared: &Shared) -> String {
    let Some(address) = front::client(req, &shared.config) else { return "unknown".into() };
    security::hex(&Sha256::digest(network(address).to_string())[..8])
}

fn record(shared: &Shared, response: &ServiceResponse<BoxBody>, id: &str, started: Instant) {
    let req = response.request();
    let took = started.elapsed();
    let status = response.status().as_u16();
    let pattern = req.match_pattern();
    let route = pattern.as_deref().unwrap_or("other");
    let method = known_method(req.method());
    shared.metrics.answered(route, method, status, took);
    // The path holds no personal data; the query may (a search), and stays out.
    let ms = took.as_secs_f64() * 1000.0;
    let client = front::client(req, &shared.config).map(tracing::field::display);
    match status {
        _ if is_probe(route) => tracing::debug!(id, method, route, status, ms, "probe"),
        500.. => tracing::warn!(id, client, method, path = req.path(), route, status, ms, "request"),
        _ => tracing::info!(id, client, method, path = req.path(), route, status, ms, "request"),
    }
}

/// The method's name in the counters: clients choose it freely, so what isn't known is counted together.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn an_id_that_could_forge_a_log_line_is_replaced() {
        let id = |value: &str| request_id(&TestRequest::get().insert_header(("x-request-id", value)).to_http_request());
        assert_eq!(id("abc-123"), "abc-123");
        assert_ne!(id("a b\" c"), "a b\" c");
        assert_eq!(id(&"a".repeat(65)).len(), 32);
    }
}
