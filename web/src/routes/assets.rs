//! The stylesheet and the icon, embedded.

use std::sync::OnceLock;

use actix_web::http::header;
use actix_web::web::Path;
use actix_web::{HttpResponse, web};
use sha2::{Digest, Sha256};

use crate::security::hex;

const CSS: &str = include_str!("../../static/app.css");
const ICON: &str = include_str!("../../static/favicon.svg");

/// The stylesheet's path; it has a digest in it, so that browsers may keep it for good.
pub fn stylesheet() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| format!("/static/app-{}.css", hex(&Sha256::digest(CSS)[..6])))
}

/// Answers with the stylesheet, under any digest: while a new version rolls out, a page of one may ask a
/// pod of the other. Only its own is to be kept.
pub async fn css(name: Path<String>) -> HttpResponse {
    let own = stylesheet().strip_prefix("/static/app-").and_then(|s| s.strip_suffix(".css")) == Some(name.as_str());
    let cache = if own { "public, max-age=31536000, immutable" } else { "no-cache" };
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, cache))
        .content_type("text/css; charset=utf-8")
        .body(web::Bytes::from_static(CSS.as_bytes()))
}

/// Answers with the icon.
pub async fn icon() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "public, max-age=86400"))
        .content_type("image/svg+xml")
        .body(web::Bytes::from_static(ICON.as_bytes()))
}
