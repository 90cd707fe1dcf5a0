//! Errors of the API as RFC 9457 problem documents.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;

use crate::models::FieldError;

/// The seconds after which it is worth asking again, when the database was away.
pub const RETRY_AFTER: u64 = 5;

/// A problem: an error as the API tells it.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    #[serde(skip)]
    retry_after: Option<u64>,
}

impl Problem {
    /// Makes a problem that its HTTP status describes.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
        }
    }

    /// The problem of fields that don't hold a valid value.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Some fields are not valid.");
        Self { kind: "/problems/invalid", errors, ..problem }
    }

    /// The problem of an address that another user has.
    pub fn email_taken() -> Self {
        let errors = vec![EMAIL_TAKEN];
        Self { kind: "/problems/email-taken", errors, ..Self::new(StatusCode::CONFLICT, EMAIL_TAKEN.message) }
    }

    /// The problem of an idempotency key that belongs to another request.
    pub fn key_reused() -> Self {
        let detail = "This Idempotency-Key was sent with another request before.";
        Self { kind: "/problems/key-reused", ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    /// The problem of a database that did not answer in time.
    pub fn unavailable() -> Self {
        let detail = "The database did not answer in time. Send the request again, a write with the same \
                      Idempotency-Key: it will not take place twice.";
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        Self { kind: "/problems/unavailable", retry_after: Some(RETRY_AFTER), ..problem }
    }

    /// The problem of a search that takes too long.
    pub fn too_slow() -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, TOO_SLOW);
        Self { kind: "/problems/too-slow", retry_after: Some(RETRY_AFTER), ..problem }
    }

    /// The problem of a client that sends too many requests.
    pub fn too_many(retry_after: u64) -> Self {
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests from this address.");
        Self { retry_after: Some(retry_after), ..problem }
    }

    /// The problem as a response.
    pub fn response(&self) -> HttpResponse {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = HttpResponse::build(status);
        if let Some(seconds) = self.retry_after {
            response.insert_header(("Retry-After", seconds.to_string()));
        }
        response.content_type("application/problem+json").body(serde_json::to_string(self).unwrap_or_default())
    }
}

/// The words where a read took too long.
pub const TOO_SLOW: &str =
    "There are too many users to look through for this. Search for a longer part of the name or address.";

/// The error beside the field of an address that another user has.
pub const EMAIL_TAKEN: FieldError = FieldError { field: "email", message: "Another user has this e-mail address." };
