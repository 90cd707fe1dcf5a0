//! Preconditions: `If-Match` and `If-None-Match`, by which a request is tied to versions of a user (RFC 9110, 13.1).

use actix_web::http::header::{self, HeaderMap, HeaderName};
use time::OffsetDateTime;

use crate::store::Condition;

/// The entity tags that a header names.
enum Tags<'a> {
    /// `*`: any version.
    Any,
    /// The tags of a list, each with whether it is weak. What is no tag is left out.
    Listed(Vec<(bool, &'a str)>),
}

/// Reads a list of entity tags, from one header or several of its name; `None` where there is none.
fn tags<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Tags<'a>> {
    let mut listed = Vec::new();
    let mut values = headers.get_all(name).peekable();
    values.peek()?;
    for value in values {
        let mut rest = value.to_str().unwrap_or_default().trim();
        if rest == "*" {
            return Some(Tags::Any);
        }
        while !rest.is_empty() {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            let (weak, tag) = rest.strip_prefix("W/").map_or((false, rest), |tag| (true, tag));
            // A tag may hold a comma: it ends at its quote.
            match tag.strip_prefix('"').and_then(|tag| tag.split_once('"')) {
                Some((tag, after)) => {
                    listed.push((weak, tag));
                    rest = after;
                }
                None => rest = rest.split_once(',').map_or("", |(_, after)| after),
            }
        }
    }
    Some(Tags::Listed(listed))
}

/// Reads the versions that a write is tied to.
pub fn of_write(headers: &HeaderMap) -> Condition {
    let versions = |tags: Vec<(bool, &str)>, weak_too: bool| -> Vec<OffsetDateTime> {
        tags.into_iter().filter(|(weak, _)| weak_too || !weak).filter_map(|(_, tag)| parse_version(tag)).collect()
    };
    let mut condition = match tags(headers, &header::IF_MATCH) {
        None | Some(Tags::Any) => Condition::default(),
        Some(Tags::Listed(tags)) => Condition { only: Some(versions(tags, false)), ..Condition::default() },
    };
    match tags(headers, &header::IF_NONE_MATCH) {
        None => {}
        // Only where there is nobody: no version fits.
        Some(Tags::Any) => condition.only = Some(Vec::new()),
        Some(Tags::Listed(tags)) => condition.unless = versions(tags, true),
    }
    condition
}

/// Tells whether a reader has this version already.
pub fn has(headers: &HeaderMap, version: i64) -> bool {
    let version = version.to_string();
    match tags(headers, &header::IF_NONE_MATCH) {
        None => false,
        Some(Tags::Any) => true,
        Some(Tags::Listed(tags)) => tags.iter().any(|(_, tag)| *tag == version),
    }
}

/// Reads the moment that an entity tag or a form's version stands for. No user is older than 1970, and PostgreSQL
/// takes no moment that is much older than the calendar.
pub fn parse_version(text: &str) -> Option<OffsetDateTime> {
    let micros: u64 = text.parse().ok()?;
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000).ok()
}
