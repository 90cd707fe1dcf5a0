//! `/api/v1`: JSON for programs. `openapi.json` describes it.

use actix_web::http::{StatusCode, header};
use actix_web::web::{Bytes, Data, Path};
use actix_web::{Error, HttpRequest, HttpResponse};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::guard::client_name;
use super::{conditions, failed, listing, media, position};
use crate::app::{App, Shared};
use crate::db::{DbError, Read};
use crate::front;
use crate::models::{RawUser, User, ValidUser};
use crate::problem::Problem;
use crate::security::{random_id, same_origin};
use crate::store::{Change, Condition, Find, Key, List, Page, Write, WriteOutcome};

/// The description of this API.
pub const OPENAPI: &str = include_str!("../../static/openapi.json");

/// The users of a list, unless its address says otherwise.
const DEFAULT_LIMIT: u16 = 50;

/// Answers with the API's own description.
pub async fn openapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(OPENAPI)
}

#[derive(Serialize)]
struct ListDocument<'a> {
    users: &'a [User],
    /// The value for `before=`, where there are older users.
    #[serde(skip_serializing_if = "Option::is_none")]
    older: Option<i64>,
    /// The value for `after=`, where there are newer users.
    #[serde(skip_serializing_if = "Option::is_none")]
    newer: Option<i64>,
    stale: bool,
}

/// Answers with a page of the list, newest first.
pub async fn list(app: Data<App>, req: HttpRequest) -> HttpResponse {
    let (list, wrong) = listing::parse(req.query_string(), DEFAULT_LIMIT);
    if let Some(detail) = wrong {
        return Problem::new(StatusCode::BAD_REQUEST, detail).response();
    }
    match listing::ask(&app, &req, &app.lists, list, render_list).await {
        Ok((body, stale)) => fresh_or_stale(HttpResponse::Ok(), stale).content_type("application/json").body(body),
        Err(e) => failed(&app, &req, &e),
    }
}

fn render_list(_: &Shared, _: &List, read: &Read<Page>) -> Result<Bytes, DbError> {
    let page = &read.value;
    let document = ListDocument {
        users: &page.users,
        older: page.users.last().filter(|_| page.older).map(|u| u.id),
        newer: page.users.first().filter(|_| page.newer).map(|u| u.id),
        stale: read.stale,
    };
    serde_json::to_vec(&document).map(Bytes::from).map_err(|e| DbError::Fault(format!("the list's JSON: {e}")))
}

fn fresh_or_stale(mut response: actix_web::HttpResponseBuilder, stale: bool) -> actix_web::HttpResponseBuilder {
    if stale {
        response.insert_header(("X-Data-Stale", "true"));
    }
    response
}

fn user_response(mut response: actix_web::HttpResponseBuilder, user: &User) -> HttpResponse {
    response
        .insert_header(etag(user))
        .content_type("application/json")
        .body(serde_json::to_string(user).unwrap_or_default())
}

fn etag(user: &User) -> (header::HeaderName, String) {
    (header::ETAG, format!("\"{}\"", user.version()))
}

/// Answers with one user.
pub async fn read(app: Data<App>, req: HttpRequest, id: Path<String>) -> HttpResponse {
    let Ok(id) = id.parse() else { return missing() };
    match app.db.read(Find(id)).await {
        Ok(read) => match read.value {
            Some(user) if conditions::has(req.headers(), user.version()) => {
                fresh_or_stale(HttpResponse::NotModified(), read.stale).insert_header(etag(&user)).finish()
            }
            Some(user) => user_response(fresh_or_stale(HttpResponse::Ok(), read.stale), &user),
            None => missing(),
        },
        Err(e) => failed(&app, &req, &e),
    }
}

/// Registers a user.
pub async fn create(app: Data<App>, req: HttpRequest, body: Result<Bytes, Error>) -> HttpResponse {
    match parse_user(&req, body) {
        Ok(user) => write(&app, &req, Change::Create(user)).await,
        Err(problem) => problem.response(),
    }
}

/// Replaces a user's name, address and gender.
pub async fn update(app: Data<App>, req: HttpRequest, id: Path<String>, body: Result<Bytes, Error>) -> HttpResponse {
    let Ok(id) = id.parse() else { return missing() };
    let user = match parse_user(&req, body) {
        Ok(user) => user,
        Err(problem) => return problem.response(),
    };
    write(&app, &req, Change::Update { id, user, condition: conditions::of_write(req.headers()) }).await
}

/// Removes a user.
pub async fn delete(app: Data<App>, req: HttpRequest, id: Path<String>) -> HttpResponse {
    let Ok(id) = id.parse() else { return missing() };
    if !same_origin(&req) {
        return Problem::new(StatusCode::FORBIDDEN, "The request comes from another site.").response();
    }
    write(&app, &req, Change::Delete { id, condition: conditions::of_write(req.headers()) }).await
}

fn parse_user(req: &HttpRequest, body: Result<Bytes, Error>) -> Result<ValidUser, Problem> {
    if !media::is(req.headers(), "application/json") {
        let detail = "Send application/json in UTF-8, not compressed.";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    if !same_origin(req) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "The request comes from another site."));
    }
    let body = body.map_err(|e| Problem::new(e.as_response_error().status_code(), e.to_string()))?;
    // Serde would take an array for an object whose members have defaults.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "Send a JSON object."));
    }
    let raw: RawUser =
        serde_json::from_slice(&body).map_err(|e| Problem::new(StatusCode::BAD_REQUEST, e.to_string()))?;
    ValidUser::parse(&raw).map_err(Problem::invalid)
}

/// The request's idempotency key; a new one where it has none, as the retries inside this request need one in any case.
fn key_of(app: &App, req: &HttpRequest, change: &Change) -> Result<Key, Problem> {
    let fingerprint = fingerprint(change);
    let mut given = req.headers().get_all("idempotency-key");
    let Some(value) = given.next() else { return Ok(Key { key: random_id(), fingerprint, client: String::new() }) };
    match value.to_str().ok().filter(|key| can_be_key(key) && given.next().is_none()) {
        Some(key) => Ok(Key { key: key.to_owned(), fingerprint, client: client_name(req, &app.shared) }),
        None => {
            let detail = "Idempotency-Key must be one value of 1 to 128 visible ASCII characters.";
            Err(Problem::new(StatusCode::BAD_REQUEST, detail))
        }
    }
}

/// Tells whether a text can be an idempotency key: 1 to 128 visible ASCII characters or spaces. PostgreSQL takes
/// no NUL.
pub fn can_be_key(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
}

async fn write(app: &App, req: &HttpRequest, change: Change) -> HttpResponse {
    let key = match key_of(app, req, &change) {
        Ok(key) => key,
        Err(problem) => return problem.response(),
    };
    let created = matches!(change, Change::Create(_));
    let removed = matches!(change, Change::Delete { .. });
    let (outcome, position) = match app.db.write_noted(Write { change, key }).await {
        Ok(done) => done,
        Err(e) => return failed(app, req, &e),
    };
    match outcome {
        WriteOutcome::Done { user, replayed } => {
            let mut response = match (created, removed) {
                (true, _) => HttpResponse::Created(),
                (_, true) => HttpResponse::NoContent(),
                _ => HttpResponse::Ok(),
            };
            if replayed {
                app.shared.metrics.replays.inc();
                response.insert_header(("Idempotency-Replayed", "true"));
            }
            if created {
                response.insert_header((header::LOCATION, format!("/api/v1/users/{}", user.id)));
            }
            position::tell_program(&mut response, position, front::is_secure(req, &app.shared.config));
            if removed { response.finish() } else { user_response(response, &user) }
        }
        WriteOutcome::EmailTaken => Problem::email_taken().response(),
        WriteOutcome::Missing => missing(),
        WriteOutcome::Changed => changed(),
        WriteOutcome::KeyReused => Problem::key_reused().response(),
    }
}

/// The fingerprint that a key is tied to: the digest of the whole change.
pub fn fingerprint(change: &Change) -> [u8; 32] {
    let mut digest = Sha256::new();
    let mut add = |part: &[u8]| {
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part);
    };
    let user = match change {
        Change::Create(user) => {
            add(b"create");
            Some(user)
        }
        Change::Update { id, user, condition } => {
            add(b"update");
            add(&id.to_be_bytes());
            // One version, or none, as the program before this one counted it in: its keys are still there.
            let only = condition.only.as_deref().unwrap_or_default();
            let single = if let [version] = only { version.unix_timestamp_nanos() } else { 0 };
            add(&single.to_be_bytes());
            if condition.only.is_some() && only.len() != 1 || !condition.unless.is_empty() {
                add(&digest_of(condition));
            }
            Some(user)
        }
        Change::Delete { id, condition } => {
            add(b"delete");
            add(&id.to_be_bytes());
            if *condition != Condition::default() {
                add(&digest_of(condition));
            }
            None
        }
    };
    if let Some(user) = user {
        add(user.name().as_bytes());
        add(user.email().as_str().as_bytes());
        add(user.gender().as_str().as_bytes());
    }
    digest.finalize().into()
}

fn digest_of(condition: &Condition) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update([u8::from(condition.only.is_some())]);
    for (kind, versions) in [(1, condition.only.as_deref().unwrap_or_default()), (2, &condition.unless)] {
        for version in versions {
            digest.update([kind]);
            digest.update(version.unix_timestamp_nanos().to_be_bytes());
        }
    }
    digest.finalize().into()
}

fn missing() -> HttpResponse {
    Problem::new(StatusCode::NOT_FOUND, "There is no such user.").response()
}

fn changed() -> HttpResponse {
    Problem::new(StatusCode::PRECONDITION_FAILED, "The user was changed in the meantime.").response()
}
