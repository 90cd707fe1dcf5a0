//! The position in the WAL that a client brings along after a write, so that lists show it what it has written: in a
//! cookie, and for programs in a header, too. It is no secret, and whoever forges one reads from the primary.

use actix_web::http::header::{self, HeaderName};
use actix_web::{HttpRequest, HttpResponseBuilder};

use crate::app::Shared;
use crate::db::position::Position;
use crate::front;
use crate::security::cookies;

/// The header, of answers to writes and of requests for lists.
const HEADER: HeaderName = HeaderName::from_static("x-data-position");
/// The seconds for which a browser keeps a position. No standby that answers lists is behind for as long.
const MAX_AGE: u32 = 30;

fn cookie_name(secure: bool) -> &'static str {
    if secure { "__Host-position" } else { "position" }
}

/// The last position that the client brings along. What can't be read may have been any.
pub fn of(req: &HttpRequest, shared: &Shared) -> Option<Position> {
    let headers = req.headers().get_all(HEADER).map(|value| value.to_str().unwrap_or_default());
    let given = headers.chain(cookies(req, cookie_name(front::is_secure(req, &shared.config))));
    given.map(|text| Position::parse(text).unwrap_or(Position::UNREACHED)).max()
}

/// Gives a browser the position of its write, where there is a standby that may lack it.
pub fn tell_browser(response: &mut HttpResponseBuilder, position: Option<Position>, secure: bool) {
    let Some(position) = position else { return };
    let (name, tls) = (cookie_name(secure), if secure { "; Secure" } else { "" });
    // Lax: who comes back by a link from elsewhere brings it along, too.
    let cookie = format!("{name}={position}; Path=/; Max-Age={MAX_AGE}; HttpOnly; SameSite=Lax{tls}");
    response.append_header((header::SET_COOKIE, cookie));
}

/// Gives a program the position of its write, in a header beside the cookie that some keep by themselves.
pub fn tell_program(response: &mut HttpResponseBuilder, position: Option<Position>, secure: bool) {
    tell_browser(response, position, secure);
    if let Some(position) = position {
        response.insert_header((HEADER, position.to_string()));
    }
}
