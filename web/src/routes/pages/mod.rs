//! The pages. They work without JavaScript; every form is answered by a redirect when it
//! took effect, and by itself with the input kept when it did not.

mod forms;
mod removal;
mod views;

use actix_web::http::{StatusCode, header};
use actix_web::web::{self, Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde::Deserialize;

pub use forms::{create, edit, new, update};
pub use removal::{confirm_delete, delete};

use super::{failed, listing, position};
use crate::app::{App, Shared};
use crate::db::position::Position;
use crate::db::{DbError, Read};
use crate::front;
use crate::problem::RETRY_AFTER;
use crate::store::{AskStandby, Find, List, Page};
use views::{Chrome, InfoPage, ListPage, MessagePage, Standby, ViewPage, html, words};

/// The users of a list page, unless its address says otherwise.
const DEFAULT_LIMIT: u16 = 25;

/// Makes a page with a heading and a sentence.
pub fn message(shared: &Shared, status: StatusCode, title: &str, text: &str) -> HttpResponse {
    let mut response = HttpResponse::build(status);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.insert_header((header::RETRY_AFTER, RETRY_AFTER));
    }
    html(response, &MessagePage { chrome: Chrome::new(shared, "", false), title, text })
}

fn missing(app: &App) -> HttpResponse {
    message(&app.shared, StatusCode::NOT_FOUND, "No such user", "This user does not exist, or does not any more.")
}

fn redirect(to: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((header::LOCATION, to)).finish()
}

/// Redirects after a write, whose position the browser is to bring along.
fn redirect_after(app: &App, req: &HttpRequest, position: Option<Position>, to: &str) -> HttpResponse {
    let mut response = HttpResponse::SeeOther();
    position::tell_browser(&mut response, position, front::is_secure(req, &app.shared.config));
    response.insert_header((header::LOCATION, to)).finish()
}

/// Redirects to the list, which is the start.
pub async fn home() -> HttpResponse {
    redirect("/users")
}

/// Answers with the list, newest first.
pub async fn list(app: Data<App>, req: HttpRequest) -> HttpResponse {
    // What can't be read of the address is passed over: someone has edited it.
    let (list, _) = listing::parse(req.query_string(), DEFAULT_LIMIT);
    match listing::ask(&app, &req, &app.pages, list, render_list).await {
        Ok((body, _)) => HttpResponse::Ok().content_type("text/html; charset=utf-8").body(body),
        Err(e) => failed(&app, &req, &e),
    }
}

fn render_list(shared: &Shared, list: &List, read: &Read<Page>) -> Result<Bytes, DbError> {
    let mut query = String::new();
    if !list.search.is_empty() {
        let Ok(search) = askama::filters::urlencode_strict(&list.search);
        query = format!("q={search}&");
    }
    if list.limit != DEFAULT_LIMIT {
        query.push_str(&format!("limit={}&", list.limit));
    }
    let chrome = Chrome::new(shared, "users", read.stale);
    let page = ListPage { chrome, search: &list.search, query, page: &read.value };
    page.render().map(Bytes::from).map_err(|e| DbError::Fault(format!("the list's template: {e}")))
}

#[derive(Debug, Default, Deserialize)]
struct ViewQuery {
    done: Option<String>,
}

/// Answers with one user's page.
pub async fn view(app: Data<App>, req: HttpRequest, id: Path<String>) -> HttpResponse {
    let Ok(id) = id.parse() else { return missing(&app) };
    let read = match app.db.read(Find(id)).await {
        Ok(read) => read,
        Err(e) => return failed(&app, &req, &e),
    };
    let Some(user) = &read.value else { return missing(&app) };
    let query = web::Query::<ViewQuery>::from_query(req.query_string()).map(web::Query::into_inner).unwrap_or_default();
    let done = match query.done.as_deref() {
        Some("registered") => Some("Registered."),
        Some("saved") => Some("Saved."),
        _ => None,
    };
    html(HttpResponse::Ok(), &ViewPage { chrome: Chrome::new(&app.shared, "", read.stale), user, done })
}

/// Answers with the state of this pod and of its database.
pub async fn info(app: Data<App>) -> HttpResponse {
    let primary = app.shared.watch.view();
    let standby = match (&app.shared.config.database.read_host, app.db.read_standby(AskStandby).await) {
        (None, _) => Standby::None,
        (Some(_), Some(Some(state))) => Standby::Answers(state),
        (Some(_), _) => Standby::Silent,
    };
    let page = InfoPage {
        chrome: Chrome::new(&app.shared, "info", false),
        running: words(app.shared.started.elapsed()),
        since: words(primary.since.elapsed()),
        primary,
        failovers: app.shared.metrics.failovers.get(),
        standby,
    };
    html(HttpResponse::Ok(), &page)
}
