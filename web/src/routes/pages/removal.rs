//! The removal of a user, which is asked first.

use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Path};
use actix_web::{Error, HttpRequest, HttpResponse};

use super::forms::{EXPIRED, KEY_REUSED, Sent, UNAVAILABLE, unreadable};
use super::views::{Chrome, DeletePage, csrf, html, with_form};
use super::{missing, redirect_after};
use crate::app::App;
use crate::db::DbError;
use crate::routes::api::fingerprint;
use crate::routes::failed;
use crate::routes::guard::client_name;
use crate::security::random_id;
use crate::store::{Change, Condition, Find, Key, Write, WriteOutcome};

/// Asks before a user is removed.
pub async fn confirm_delete(app: Data<App>, req: HttpRequest, id: Path<String>) -> HttpResponse {
    let Ok(id) = id.parse() else { return missing(&app) };
    ask(&app, &req, id, &random_id(), None).await
}

/// Asks; after a refusal with its status and what to say about it.
async fn ask(
    app: &App,
    req: &HttpRequest,
    id: i64,
    key: &str,
    refusal: Option<(StatusCode, &'static str)>,
) -> HttpResponse {
    let read = match app.db.read(Find(id)).await {
        Ok(read) => read,
        Err(e) => return failed(app, req, &e),
    };
    let Some(user) = &read.value else { return missing(app) };
    let csrf = csrf(&app.shared, req);
    let response = with_form(refusal.map_or(StatusCode::OK, |(status, _)| status), &csrf);
    let chrome = Chrome::new(&app.shared, "", read.stale);
    html(response, &DeletePage { chrome, user, csrf: &csrf.token, key, notice: refusal.map(|(_, text)| text) })
}

/// Removes a user.
pub async fn delete(app: Data<App>, req: HttpRequest, id: Path<String>, body: Result<Bytes, Error>) -> HttpResponse {
    let Ok(id) = id.parse() else { return missing(&app) };
    let sent = match Sent::parse(&req, body) {
        Ok(sent) => sent,
        Err(status) => return unreadable(&app, status),
    };
    if !sent.is_ours(&app, &req) {
        return ask(&app, &req, id, &random_id(), Some((StatusCode::FORBIDDEN, EXPIRED))).await;
    }
    let key = sent.key();
    let change = Change::Delete { id, condition: Condition::default() };
    let client = client_name(&req, &app.shared);
    let write = Write { key: Key { key: key.clone(), fingerprint: fingerprint(&change), client }, change };
    match app.db.write_noted(write).await {
        Ok((WriteOutcome::Done { .. }, position)) => redirect_after(&app, &req, position, "/users"),
        Err(DbError::Unavailable) => {
            ask(&app, &req, id, &key, Some((StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE))).await
        }
        Err(e) => failed(&app, &req, &e),
        Ok((WriteOutcome::KeyReused, _)) => {
            ask(&app, &req, id, &random_id(), Some((StatusCode::CONFLICT, KEY_REUSED))).await
        }
        Ok(_) => missing(&app),
    }
}
