//! The forms to register and to change a user.

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data, Path};
use actix_web::{Error, HttpRequest, HttpResponse};
use serde::Deserialize;

use super::views::{Chrome, FormPage, csrf, html, with_form};
use super::{message, missing, redirect_after};
use crate::app::App;
use crate::db::DbError;
use crate::front;
use crate::models::{FieldError, RawUser, ValidUser};
use crate::problem::EMAIL_TAKEN;
use crate::routes::api::{can_be_key, fingerprint};
use crate::routes::conditions::parse_version;
use crate::routes::guard::client_name;
use crate::routes::listing::is_text;
use crate::routes::{failed, media};
use crate::security::{Csrf, random_id};
use crate::store::{Change, Condition, Find, Key, Write, WriteOutcome};

/// The words where no database answered before the deadline.
pub const UNAVAILABLE: &str = "The database is being switched over and did not answer in time. Your input is kept: send \
                               it again in a moment. It will not take effect twice.";
/// The words where the key belongs to other values.
pub const KEY_REUSED: &str =
    "This form was sent before with other values, and those took effect. Send it again to apply these.";
/// The words where the token is not this browser's.
pub const EXPIRED: &str =
    "This form could not be checked, perhaps because cookies are off or it was open for long. Please send it again.";
const CHANGED: &str =
    "Somebody else changed this user in the meantime. Look at the values and save again to replace them.";

/// The fields that a form of the app sends.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sent {
    #[serde(default)]
    csrf: String,
    #[serde(default)]
    key: String,
    version: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    email: String,
    gender: Option<String>,
}

impl Sent {
    /// Reads a form; the error is the status to answer with.
    pub fn parse(req: &HttpRequest, body: Result<Bytes, Error>) -> Result<Self, StatusCode> {
        let headers = req.headers();
        if media::is_told(headers) && !media::is(headers, "application/x-www-form-urlencoded") {
            return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        let body = body.map_err(|e| e.as_response_error().status_code())?;
        let text = std::str::from_utf8(&body).ok().filter(|text| is_text(text)).ok_or(StatusCode::BAD_REQUEST)?;
        web::Query::from_query(text).map(web::Query::into_inner).map_err(|_| StatusCode::BAD_REQUEST)
    }

    /// Tells whether the form was given to the browser that sends it.
    pub fn is_ours(&self, app: &App, req: &HttpRequest) -> bool {
        Csrf::holds(req, front::is_secure(req, &app.shared.config), &self.csrf)
    }

    /// The form's idempotency key; a new one where it has none that can be one.
    pub fn key(&self) -> String {
        if can_be_key(&self.key) { self.key.clone() } else { random_id() }
    }
}

/// A form for a user, new or known.
struct Form {
    /// The user's number; `None` to register.
    id: Option<i64>,
    raw: RawUser,
    version: Option<i64>,
    key: String,
    errors: Vec<FieldError>,
    notice: Option<&'static str>,
}

impl Form {
    fn empty(id: Option<i64>) -> Self {
        Self { id, raw: RawUser::default(), version: None, key: random_id(), errors: Vec::new(), notice: None }
    }

    fn show(&self, app: &App, req: &HttpRequest, status: StatusCode, stale: bool) -> HttpResponse {
        let csrf = csrf(&app.shared, req);
        let page = FormPage {
            chrome: Chrome::new(&app.shared, if self.id.is_none() { "new" } else { "" }, stale),
            title: if self.id.is_none() { "Register a user" } else { "Edit a user" },
            action: self.id.map_or_else(|| "/users".into(), |id| format!("/users/{id}")),
            submit: if self.id.is_none() { "Register" } else { "Save" },
            cancel: self.id.map_or_else(|| "/users".into(), |id| format!("/users/{id}")),
            csrf: &csrf.token,
            key: &self.key,
            version: self.version,
            raw: &self.raw,
            errors: &self.errors,
            notice: self.notice,
        };
        html(with_form(status, &csrf), &page)
    }

    async fn submit(mut self, app: &App, req: &HttpRequest, sent: Sent) -> HttpResponse {
        let ours = sent.is_ours(app, req);
        self.key = sent.key();
        self.raw = RawUser { name: sent.name, email: sent.email, gender: sent.gender };
        let seen = sent.version.as_deref().and_then(parse_version);
        self.version = sent.version.and_then(|v| v.parse().ok());
        if !ours {
            self.notice = Some(EXPIRED);
            return self.show(app, req, StatusCode::FORBIDDEN, false);
        }
        let user = match ValidUser::parse(&self.raw) {
            Ok(user) => user,
            Err(errors) => {
                self.errors = errors;
                return self.show(app, req, StatusCode::UNPROCESSABLE_ENTITY, false);
            }
        };
        let change = match self.id {
            None => Change::Create(user),
            Some(id) => {
                let condition = Condition { only: seen.map(|version| vec![version]), ..Condition::default() };
                Change::Update { id, user, condition }
            }
        };
        let client = client_name(req, &app.shared);
        let key = Key { key: self.key.clone(), fingerprint: fingerprint(&change), client };
        let status = match app.db.write_noted(Write { change, key }).await {
            Ok((WriteOutcome::Done { user, replayed }, position)) => {
                if replayed {
                    app.shared.metrics.replays.inc();
                }
                let done = if self.id.is_none() { "registered" } else { "saved" };
                return redirect_after(app, req, position, &format!("/users/{}?done={done}", user.id));
            }
            Ok((WriteOutcome::Missing, _)) => return missing(app),
            Ok((WriteOutcome::EmailTaken, _)) => {
                self.errors = vec![EMAIL_TAKEN];
                StatusCode::CONFLICT
            }
            Ok((WriteOutcome::Changed, _)) => {
                self.notice = Some(CHANGED);
                // What is saved next replaces what is there then.
                self.version = None;
                self.key = random_id();
                StatusCode::CONFLICT
            }
            Ok((WriteOutcome::KeyReused, _)) => {
                self.notice = Some(KEY_REUSED);
                self.key = random_id();
                StatusCode::CONFLICT
            }
            Err(DbError::Unavailable) => {
                self.notice = Some(UNAVAILABLE);
                StatusCode::SERVICE_UNAVAILABLE
            }
            Err(e) => return failed(app, req, &e),
        };
        self.show(app, req, status, false)
    }
}

/// The answer to a form that can't be read.
pub fn unreadable(app: &App, status: StatusCode) -> HttpResponse {
    message(&app.shared, status, "The form could not be read", "What was sent is not what this form sends.")
}

/// Answers with the form to register.
pub async fn new(app: Data<App>, req: HttpRequest) -> HttpResponse {
    Form::empty(None).show(&app, &req, StatusCode::OK, false)
}

/// Registers a user.
pub async fn create(app: Data<App>, req: HttpRequest, body: Result<Bytes, Error>) -> HttpResponse {
    match Sent::parse(&req, body) {
        Ok(sent) => Form::empty(None).submit(&app, &req, sent).await,
        Err(status) => unreadable(&app, status),
    }
}

/// Answers with the form to change a user.
pub async fn edit(app: Data<App>, req: HttpRequest, id: Path<String>) -> HttpResponse {
    let Ok(id) = id.parse() else { return missing(&app) };
    let read = match app.db.read(Find(id)).await {
        Ok(read) => read,
        Err(e) => return failed(&app, &req, &e),
    };
    let Some(user) = read.value else { return missing(&app) };
    let version = Some(user.version());
    let raw = RawUser { name: user.name, email: user.email, gender: Some(user.gender.as_str().into()) };
    Form { raw, version, ..Form::empty(Some(id)) }.show(&app, &req, StatusCode::OK, read.stale)
}

/// Changes a user.
pub async fn update(app: Data<App>, req: HttpRequest, id: Path<String>, body: Result<Bytes, Error>) -> HttpResponse {
    let Ok(id) = id.parse() else { return missing(&app) };
    match Sent::parse(&req, body) {
        Ok(sent) => Form::empty(Some(id)).submit(&app, &req, sent).await,
        Err(status) => unreadable(&app, status),
    }
}
