//! The values that the templates show.

use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use askama::Template;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::app::{Shared, VERSION};
use crate::db::watch::PrimaryState;
use crate::front;
use crate::models::{FieldError, RawUser, User};
use crate::problem::RETRY_AFTER;
use crate::routes::assets::stylesheet;
use crate::security::Csrf;
use crate::store::{Page, StandbyState};

/// The frame of every page.
pub struct Chrome<'a> {
    stylesheet: &'static str,
    version: &'static str,
    pod: &'a str,
    here: &'static str,
    stale: bool,
}

impl<'a> Chrome<'a> {
    /// Makes the frame of the page that the menu calls `here`; `stale` when it shows what a standby had.
    pub fn new(shared: &'a Shared, here: &'static str, stale: bool) -> Self {
        Self { stylesheet: stylesheet(), version: VERSION, pod: &shared.config.pod, here, stale }
    }
}

#[derive(Template)]
#[template(path = "list.html")]
pub struct ListPage<'a> {
    pub chrome: Chrome<'a>,
    pub search: &'a str,
    /// The query that pages of this search share, ready for a link.
    pub query: String,
    pub page: &'a Page,
}

#[derive(Template)]
#[template(path = "form.html")]
pub struct FormPage<'a> {
    pub chrome: Chrome<'a>,
    pub title: &'a str,
    pub action: String,
    pub submit: &'static str,
    pub cancel: String,
    pub csrf: &'a str,
    pub key: &'a str,
    pub version: Option<i64>,
    pub raw: &'a RawUser,
    pub errors: &'a [FieldError],
    pub notice: Option<&'static str>,
}

impl FormPage<'_> {
    fn error(&self, field: &str) -> Option<&'static str> {
        self.errors.iter().find(|e| e.field == field).map(|e| e.message)
    }
}

#[derive(Template)]
#[template(path = "view.html")]
pub struct ViewPage<'a> {
    pub chrome: Chrome<'a>,
    pub user: &'a User,
    pub done: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "delete.html")]
pub struct DeletePage<'a> {
    pub chrome: Chrome<'a>,
    pub user: &'a User,
    pub csrf: &'a str,
    pub key: &'a str,
    pub notice: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "message.html")]
pub struct MessagePage<'a> {
    pub chrome: Chrome<'a>,
    pub title: &'a str,
    pub text: &'a str,
}

#[derive(Template)]
#[template(path = "info.html")]
pub struct InfoPage<'a> {
    pub chrome: Chrome<'a>,
    pub running: String,
    pub primary: PrimaryState,
    pub since: String,
    pub failovers: u64,
    pub standby: Standby,
}

/// The state of the standbys that are set.
pub enum Standby {
    /// No standby is set.
    None,
    /// The standby does not answer.
    Silent,
    /// The standby says this about itself.
    Answers(StandbyState),
}

/// Renders a page as an answer.
pub fn html(mut response: HttpResponseBuilder, page: &impl Template) -> HttpResponse {
    match page.render() {
        Ok(text) => response.content_type("text/html; charset=utf-8").body(text),
        Err(e) => {
            tracing::error!(error = %e, "template");
            HttpResponse::InternalServerError().finish()
        }
    }
}

/// Starts an answer with a form: the cookie that belongs to it, and when it is worth sending it again.
pub fn with_form(status: actix_web::http::StatusCode, csrf: &Csrf) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    if let Some(cookie) = &csrf.cookie {
        response.insert_header((header::SET_COOKIE, cookie.as_str()));
    }
    if status == actix_web::http::StatusCode::SERVICE_UNAVAILABLE {
        response.insert_header((header::RETRY_AFTER, RETRY_AFTER));
    }
    response
}

/// The token of this browser's forms.
pub fn csrf(shared: &Shared, req: &HttpRequest) -> Csrf {
    Csrf::of(req, front::is_secure(req, &shared.config))
}

/// Writes day and minute, UTC.
pub fn minute(t: &OffsetDateTime) -> String {
    t.format(format_description!("[year]-[month]-[day] [hour]:[minute]")).unwrap_or_default()
}

/// Writes a duration in its two largest units.
pub fn words(took: Duration) -> String {
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
