//! The pages. They work without JavaScript; every form is answered by a redirect when it
//! took effect, and by itself with the input kept when it did not.

use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_web::http::{StatusCode, header};
use actix_web::web::{self, Bytes, Data, Path};
use actix_web::{Error, HttpRequest, HttpResponse, HttpResponseBuilder};
use askama::Template;
use serde::Deserialize;
use time::OffsetDateTime;
use time::macros::format_description;

use super::api::{fingerprint, parse_version};
use super::assets::stylesheet;
use crate::app::{App, Shared, VERSION};
use crate::db::watch::View;
use crate::db::{Db, DbError};
use crate::models::{FieldError, RawUser, User, ValidUser};
use crate::problem::{EMAIL_TAKEN, RETRY_AFTER};
use crate::security::{Csrf, random_id};
use crate::store::{AskStandby, Change, Find, From, Key, List, Page, StandbyState, Write, Written};

const UNAVAILABLE: &str = "The database is being switched over and did not answer in time. Your input is kept: send it \
                           again in a moment. It will not take effect twice.";
const CHANGED: &str =
    "Somebody else changed this user in the meantime. Look at the values and save again to replace them.";
const KEY_REUSED: &str =
    "This form was sent before with other values, and those took effect. Send it again to apply these.";
const EXPIRED: &str =
    "This form could not be checked, perhaps because cookies are off or it was open for long. Please send it again.";

/// A list page, ready to be sent to all that asked for it together; `None` when the database
/// did not answer.
pub type ListBody = Option<Bytes>;

/// What surrounds every page.
struct Chrome<'a> {
    stylesheet: &'static str,
    version: &'static str,
    pod: &'a str,
    here: &'static str,
    stale: bool,
}

fn chrome<'a>(shared: &'a Shared, here: &'static str, stale: bool) -> Chrome<'a> {
    Chrome { stylesheet: stylesheet(), version: VERSION, pod: &shared.config.pod, here, stale }
}

/// Day and minute, UTC.
pub(crate) fn minute(t: &OffsetDateTime) -> String {
    t.format(format_description!("[year]-[month]-[day] [hour]:[minute]")).unwrap_or_default()
}

#[derive(Template)]
#[template(path = "list.html")]
struct ListPage<'a> {
    chrome: Chrome<'a>,
    search: &'a str,
    /// The query that pages of this search share, ready for a link.
    query: String,
    page: &'a Page,
}

#[derive(Template)]
#[template(path = "form.html")]
struct FormPage<'a> {
    chrome: Chrome<'a>,
    title: &'a str,
    action: String,
    submit: &'static str,
    cancel: String,
    csrf: &'a str,
    key: &'a str,
    version: Option<i64>,
    raw: &'a RawUser,
    errors: &'a [FieldError],
    notice: Option<&'static str>,
}

impl FormPage<'_> {
    fn error(&self, field: &str) -> Option<&'static str> {
        self.errors.iter().find(|e| e.field == field).map(|e| e.message)
    }
}

#[derive(Template)]
#[template(path = "view.html")]
struct ViewPage<'a> {
    chrome: Chrome<'a>,
    user: &'a User,
    done: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "delete.html")]
struct DeletePage<'a> {
    chrome: Chrome<'a>,
    user: &'a User,
    csrf: &'a str,
    key: &'a str,
    notice: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "message.html")]
struct MessagePage<'a> {
    chrome: Chrome<'a>,
    title: &'a str,
    text: &'a str,
}

#[derive(Template)]
#[template(path = "info.html")]
struct InfoPage<'a> {
    chrome: Chrome<'a>,
    running: String,
    primary: View,
    since: String,
    failovers: u64,
    standby: Standby,
}

enum Standby {
    None,
    Silent,
    Answers(StandbyState),
}

fn html(mut response: HttpResponseBuilder, page: &impl Template) -> HttpResponse {
    match page.render() {
        Ok(text) => response.content_type("text/html; charset=utf-8").body(text),
        Err(e) => {
            tracing::error!(error = %e, "template");
            HttpResponse::InternalServerError().finish()
        }
    }
}

/// A page with a heading and a sentence.
pub fn message(shared: &Shared, status: StatusCode, title: &str, text: &str) -> HttpResponse {
    let mut response = HttpResponse::build(status);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.insert_header((header::RETRY_AFTER, RETRY_AFTER));
    }
    html(response, &MessagePage { chrome: chrome(shared, "", false), title, text })
}

fn missing(app: &App) -> HttpResponse {
    message(&app.shared, StatusCode::NOT_FOUND, "No such user", "This user does not exist, or does not any more.")
}

fn failed(app: &App, error: &DbError) -> HttpResponse {
    match error {
        DbError::Unavailable => message(
            &app.shared,
            StatusCode::SERVICE_UNAVAILABLE,
            "The database does not answer",
            "It is probably being switched over to another server. Please try again in a moment.",
        ),
        DbError::Refused(_) => {
            tracing::error!(%error, "refused");
            let text = "The request could not be carried out.";
            message(&app.shared, StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong", text)
        }
    }
}

fn redirect(to: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((header::LOCATION, to)).finish()
}

/// The list is the start.
pub async fn home() -> HttpResponse {
    redirect("/users")
}

#[derive(Debug, Default, Deserialize)]
struct ListQuery {
    #[serde(default)]
    q: String,
    before: Option<i64>,
    after: Option<i64>,
    limit: Option<u16>,
}

/// The list, newest first.
pub async fn list(app: Data<App>, req: HttpRequest) -> HttpResponse {
    // A query that can't be read shows the start: someone has edited the address.
    let query = web::Query::<ListQuery>::from_query(req.query_string()).map(web::Query::into_inner).unwrap_or_default();
    let from = match (query.before, query.after) {
        (Some(id), _) => From::Before(id),
        (None, Some(id)) => From::After(id),
        (None, None) => From::Start,
    };
    let search = query.q.trim().chars().take(200).collect();
    let list = List { search, from, limit: query.limit.unwrap_or(25).clamp(1, 100) };
    let (db, shared) = (Rc::clone(&app.db), std::sync::Arc::clone(&app.shared));
    let read = move |list| render_list(Rc::clone(&db), std::sync::Arc::clone(&shared), list);
    match app.pages.ask(list, read).await.flatten() {
        Some(body) => HttpResponse::Ok().content_type("text/html; charset=utf-8").body(body),
        None => failed(&app, &DbError::Unavailable),
    }
}

async fn render_list(db: Rc<Db>, shared: std::sync::Arc<Shared>, list: List) -> ListBody {
    let read = db.read(list.clone()).await.inspect_err(|e| tracing::error!(error = %e, "list")).ok()?;
    let mut query = String::new();
    if !list.search.is_empty() {
        query = format!("q={}&", askama::filters::urlencode_strict(&list.search).ok()?);
    }
    if list.limit != 25 {
        query.push_str(&format!("limit={}&", list.limit));
    }
    let chrome = chrome(&shared, "users", read.stale);
    let page = ListPage { chrome, search: &list.search, query, page: &read.value };
    page.render().inspect_err(|e| tracing::error!(error = %e, "template")).ok().map(Bytes::from)
}

#[derive(Debug, Default, Deserialize)]
struct ViewQuery {
    done: Option<String>,
}

/// One user.
pub async fn view(app: Data<App>, req: HttpRequest, id: Path<String>) -> HttpResponse {
    let Ok(id) = id.parse() else { return missing(&app) };
    let read = match app.db.read(Find(id)).await {
        Ok(read) => read,
        Err(e) => return failed(&app, &e),
    };
    let Some(user) = &read.value else { return missing(&app) };
    let query = web::Query::<ViewQuery>::from_query(req.query_string()).map(web::Query::into_inner).unwrap_or_default();
    let done = match query.done.as_deref() {
        Some("registered") => Some("Registered."),
        Some("saved") => Some("Saved."),
        _ => None,
    };
    html(HttpResponse::Ok(), &ViewPage { chrome: chrome(&app.shared, "", read.stale), user, done })
}

/// What a form of ours sends.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
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
    fn parse(body: Result<Bytes, Error>) -> Result<Self, StatusCode> {
        let body = body.map_err(|e| e.as_response_error().status_code())?;
        let text = std::str::from_utf8(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
        web::Query::from_query(text).map(web::Query::into_inner).map_err(|_| StatusCode::BAD_REQUEST)
    }
}

/// A form for a user, new or known.
struct Form {
    /// `None` to register.
    id: Option<i64>,
    raw: RawUser,
    version: Option<i64>,
    key: String,
    errors: Vec<FieldError>,
    notice: Option<&'static str>,
}

impl Form {
    fn show(&self, app: &App, req: &HttpRequest, status: StatusCode, stale: bool) -> HttpResponse {
        let csrf = Csrf::of(req, app.shared.config.secure_cookies);
        let mut response = HttpResponse::build(status);
        if let Some(cookie) = &csrf.cookie {
            response.insert_header((header::SET_COOKIE, cookie.as_str()));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((header::RETRY_AFTER, RETRY_AFTER));
        }
        let page = FormPage {
            chrome: chrome(&app.shared, if self.id.is_none() { "new" } else { "" }, stale),
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
        html(response, &page)
    }

    async fn submit(mut self, app: &App, req: &HttpRequest, sent: Sent) -> HttpResponse {
        let secure = app.shared.config.secure_cookies;
        self.raw = RawUser { name: sent.name, email: sent.email, gender: sent.gender };
        self.key = if (1..=128).contains(&sent.key.len()) && sent.key.is_ascii() { sent.key } else { random_id() };
        let seen = sent.version.as_deref().and_then(parse_version);
        self.version = sent.version.and_then(|v| v.parse().ok());
        if !Csrf::holds(req, secure, &sent.csrf) {
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
            Some(id) => Change::Update { id, user, if_version: seen },
        };
        let key = Key { key: self.key.clone(), fingerprint: fingerprint(&change) };
        let status = match app.db.write(Write { change, key }).await {
            Ok(Written::Done { user, replayed }) => {
                if replayed {
                    app.shared.metrics.replays.inc();
                }
                let done = if self.id.is_none() { "registered" } else { "saved" };
                return redirect(&format!("/users/{}?done={done}", user.id));
            }
            Ok(Written::Missing) => return missing(app),
            Ok(Written::EmailTaken) => {
                self.errors = vec![EMAIL_TAKEN];
                StatusCode::CONFLICT
            }
            Ok(Written::Changed) => {
                self.notice = Some(CHANGED);
                // What is saved next replaces what is there then.
                self.version = None;
                self.key = random_id();
                StatusCode::CONFLICT
            }
            Ok(Written::KeyReused) => {
                self.notice = Some(KEY_REUSED);
                self.key = random_id();
                StatusCode::CONFLICT
            }
            Err(DbError::Unavailable) => {
                self.notice = Some(UNAVAILABLE);
                StatusCode::SERVICE_UNAVAILABLE
            }
            Err(e) => return failed(app, &e),
        };
        self.show(app, req, status, false)
    }
}

fn empty_form(id: Option<i64>) -> Form {
    Form { id, raw: RawUser::default(), version: None, key: random_id(), errors: Vec::new(), notice: None }
}

fn unreadable(app: &App, status: StatusCode) -> HttpResponse {
    message(&app.shared, status, "The form could not be read", "What was sent is not what this form sends.")
}

/// The form to register.
pub async fn new(app: Data<App>, req: HttpRequest) -> HttpResponse {
    empty_form(None).show(&app, &req, StatusCode::OK, false)
}

/// Registers.
pub async fn create(app: Data<App>, req: HttpRequest, body: Result<Bytes, Error>) -> HttpResponse {
    match Sent::parse(body) {
        Ok(sent) => empty_form(None).submit(&app, &req, sent).await,
        Err(status) => unreadable(&app, status),
    }
}

/// The form to change a user.
pub async fn edit(app: Data<App>, req: HttpRequest, id: Path<String>) -> HttpResponse {
    let Ok(id) = id.parse() else { return missing(&app) };
    match app.db.read(Find(id)).await {
        Ok(read) => match read.value {
            Some(user) => {
                let version = Some(user.version());
                let raw = RawUser { name: user.name, email: user.email, gender: Some(user.gender.as_str().into()) };
                Form { raw, version, ..empty_form(Some(id)) }.show(&app, &req, StatusCode::OK, read.stale)
            }
            None => missing(&app),
        },
        Err(e) => failed(&app, &e),
    }
}

/// Changes a user.
pub async fn update(app: Data<App>, req: HttpRequest, id: Path<String>, body: Result<Bytes, Error>) -> HttpResponse {
    let Ok(id) = id.parse() else { return missing(&app) };
    match Sent::parse(body) {
        Ok(sent) => empty_form(Some(id)).submit(&app, &req, sent).await,
        Err(status) => unreadable(&app, status),
    }
}

/// Asks before a user is removed.
pub async fn confirm_delete(app: Data<App>, req: HttpRequest, id: Path<String>) -> HttpResponse {
    let Ok(id) = id.parse() else { return missing(&app) };
    show_delete(&app, &req, id, &random_id(), None).await
}

async fn show_delete(
    app: &App,
    req: &HttpRequest,
    id: i64,
    key: &str,
    notice: Option<(StatusCode, &'static str)>,
) -> HttpResponse {
    let read = match app.db.read(Find(id)).await {
        Ok(read) => read,
        Err(e) => return failed(app, &e),
    };
    let Some(user) = &read.value else { return missing(app) };
    let csrf = Csrf::of(req, app.shared.config.secure_cookies);
    let mut response = HttpResponse::build(notice.map_or(StatusCode::OK, |(status, _)| status));
    if let Some(cookie) = &csrf.cookie {
        response.insert_header((header::SET_COOKIE, cookie.as_str()));
    }
    if notice.is_some_and(|(status, _)| status == StatusCode::SERVICE_UNAVAILABLE) {
        response.insert_header((header::RETRY_AFTER, RETRY_AFTER));
    }
    let chrome = chrome(&app.shared, "", read.stale);
    html(response, &DeletePage { chrome, user, csrf: &csrf.token, key, notice: notice.map(|(_, text)| text) })
}

/// Removes a user.
pub async fn delete(app: Data<App>, req: HttpRequest, id: Path<String>, body: Result<Bytes, Error>) -> HttpResponse {
    let Ok(id) = id.parse() else { return missing(&app) };
    let sent = match Sent::parse(body) {
        Ok(sent) => sent,
        Err(status) => return unreadable(&app, status),
    };
    if !Csrf::holds(&req, app.shared.config.secure_cookies, &sent.csrf) {
        return show_delete(&app, &req, id, &random_id(), Some((StatusCode::FORBIDDEN, EXPIRED))).await;
    }
    let key = if (1..=128).contains(&sent.key.len()) && sent.key.is_ascii() { sent.key } else { random_id() };
    let change = Change::Delete { id };
    let write = Write { key: Key { key: key.clone(), fingerprint: fingerprint(&change) }, change };
    match app.db.write(write).await {
        Ok(Written::Done { .. }) => redirect("/users"),
        Err(DbError::Unavailable) => {
            show_delete(&app, &req, id, &key, Some((StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE))).await
        }
        Err(e) => failed(&app, &e),
        Ok(Written::KeyReused) => {
            show_delete(&app, &req, id, &random_id(), Some((StatusCode::CONFLICT, KEY_REUSED))).await
        }
        Ok(_) => missing(&app),
    }
}

/// How this pod and its database are.
pub async fn info(app: Data<App>) -> HttpResponse {
    let primary = app.shared.watch.view();
    let standby = match (&app.shared.config.database.read_host, app.db.read_standby(AskStandby).await) {
        (None, _) => Standby::None,
        (Some(_), Some(Some(state))) => Standby::Answers(state),
        (Some(_), _) => Standby::Silent,
    };
    let page = InfoPage {
        chrome: chrome(&app.shared, "info", false),
        running: span(app.shared.started),
        since: span(primary.since),
        primary,
        failovers: app.shared.metrics.failovers.get(),
        standby,
    };
    html(HttpResponse::Ok(), &page)
}

/// How long ago, in the two largest units.
fn span(since: Instant) -> String {
    words(since.elapsed())
}

fn words(took: Duration) -> String {
    let s = took.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_two_units() {
        let told = |s| words(Duration::from_secs(s));
        assert_eq!([told(7), told(61), told(7_322), told(90_000)], ["7 s", "1 min 1 s", "2 h 2 min", "1 d 1 h"]);
    }
}
