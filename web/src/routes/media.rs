//! Media types: of what comes in, and of what its sender takes.

use actix_web::http::header::{self, HeaderMap};

/// Tells whether the content that comes with these headers is of this type, in UTF-8 and not compressed.
pub fn is(headers: &HeaderMap, kind: &str) -> bool {
    let identity = |value: &header::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(header::CONTENT_ENCODING).all(identity) {
        return false;
    }
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()) else { return false };
    let mut parts = value.split(';');
    let same = parts.next().is_some_and(|found| found.trim().eq_ignore_ascii_case(kind));
    let charset = parts.filter_map(|part| part.split_once('=')).find(|(n, _)| n.trim().eq_ignore_ascii_case("charset"));
    same && charset.is_none_or(|(_, value)| value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8"))
}

/// Tells whether content comes with these headers whose type is told.
pub fn is_told(headers: &HeaderMap) -> bool {
    headers.contains_key(header::CONTENT_TYPE) || headers.contains_key(header::CONTENT_ENCODING)
}

/// Tells whether the sender of these headers takes content of this type: the most specific range of `Accept` that
/// the type is in decides. Who names no range that can be read takes everything.
pub fn is_acceptable(headers: &HeaderMap, kind: &str) -> bool {
    let ranges: Vec<(&str, bool)> = headers
        .get_all(header::ACCEPT)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(parse_range)
        .collect();
    let wanted =
        |range: &str| ranges.iter().find(|(found, _)| found.eq_ignore_ascii_case(range)).map(|(_, wanted)| *wanted);
    let group = kind.split('/').next().unwrap_or_default();
    ranges.is_empty()
        || wanted(kind).or_else(|| wanted(&format!("{group}/*"))).or_else(|| wanted("*/*")).unwrap_or(false)
}

/// Reads `type/subtype;…;q=0.5`: the range, and whether its quality is above zero.
fn parse_range(text: &str) -> Option<(&str, bool)> {
    let mut parts = text.split(';');
    let range = parts.next()?.trim();
    let (group, kind) = range.split_once('/')?;
    if group.is_empty() || kind.is_empty() {
        return None;
    }
    let quality = parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    let wanted = quality.is_none_or(|(_, q)| q.trim().parse::<f32>().is_ok_and(|q| q > 0.0));
    Some((range, wanted))
}
