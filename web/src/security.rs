//! The guards against other sites, oversized requests and curious frames.

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The longest path with query that is looked at, in bytes.
pub const MAX_URI: usize = 4096;
/// The largest size of all headers together, in bytes.
pub const MAX_HEADERS: usize = 16 * 1024;
/// The largest body, in bytes. A name of 100 four-byte characters, percent-encoded, is 1.2 KB.
pub const MAX_BODY: usize = 16 * 1024;

/// The headers that every answer carries. No script is allowed at all: the pages have none.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Adds the headers that every answer carries.
pub fn add_headers(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// Tells whether the headers together are within bounds.
pub fn headers_fit(headers: &HeaderMap) -> bool {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>() <= MAX_HEADERS
}

/// Makes a random name of 128 bits.
pub fn random_id() -> String {
    let mut bytes = [0_u8; 16];
    // The kernel's generator can't fail once the machine has booted; were it to, a request
    // must rather fail than go on with a name that can be guessed.
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    hex(&bytes)
}

/// Writes bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).map(char::from).collect()
}

/// The token that ties a form to the browser it was given to: once in a cookie that other
/// sites can neither read nor send, once in the form. No state is kept, so any pod can check.
#[derive(Debug, Clone)]
pub struct Csrf {
    /// The form's part.
    pub token: String,
    /// The cookie to be set, where the browser has none yet.
    pub cookie: Option<String>,
}

fn cookie_name(secure: bool) -> &'static str {
    if secure { "__Host-csrf" } else { "csrf" }
}

/// The values of the cookies of this name. There may be several: another program on the host, or on one above it, can set
/// a cookie of the same name, which may come first.
pub fn cookies<'a>(req: &'a HttpRequest, name: &'a str) -> impl Iterator<Item = &'a str> {
    req.headers()
        .get_all(header::COOKIE)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(move |(n, _)| *n == name)
        .map(|(_, value)| value)
}

/// The tokens in this browser's cookies.
fn cookie_tokens<'a>(req: &'a HttpRequest, name: &'a str) -> impl Iterator<Item = &'a str> {
    cookies(req, name).filter(|value| value.len() == 32 && value.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl Csrf {
    /// The browser's token, or a new one.
    pub fn of(req: &HttpRequest, secure: bool) -> Self {
        let name = cookie_name(secure);
        match cookie_tokens(req, name).next() {
            Some(token) => Self { token: token.to_owned(), cookie: None },
            None => {
                let token = random_id();
                let tls = if secure { "; Secure" } else { "" };
                let cookie = format!("{name}={token}; Path=/; HttpOnly; SameSite=Strict{tls}");
                Self { token, cookie: Some(cookie) }
            }
        }
    }

    /// Tells whether a form with this token was given to the browser that sends it.
    pub fn holds(req: &HttpRequest, secure: bool, token: &str) -> bool {
        // Compared in constant time, so that nothing can be learnt from how long it takes.
        let differ = |cookie: &str| cookie.bytes().zip(token.bytes()).fold(0, |d, (a, b)| d | (a ^ b));
        let ours = cookie_tokens(req, cookie_name(secure)).fold(false, |ours, cookie| ours | (differ(cookie) == 0));
        same_origin(req) && token.len() == 32 && ours
    }
}

/// Tells whether the request can't have been made by another site's page. Browsers say so in
/// `Sec-Fetch-Site`, older ones in `Origin`; what is no browser sends neither.
pub fn same_origin(req: &HttpRequest) -> bool {
    let text = |name| req.headers().get(name).map(|v| v.to_str().unwrap_or("?"));
    if let Some(site) = text(HeaderName::from_static("sec-fetch-site")) {
        return matches!(site, "same-origin" | "none");
    }
    match (text(header::ORIGIN), text(header::HOST)) {
        (None, _) => true,
        (Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, authority)| authority == host),
        (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_token_holds_only_with_its_cookie() {
        let with = |cookie: String| TestRequest::post().insert_header(("cookie", cookie)).to_http_request();
        assert!(Csrf::holds(&with(format!("a=b; csrf={TOKEN}")), false, TOKEN));
        assert!(!Csrf::holds(&with(format!("csrf={TOKEN}")), true, TOKEN), "served over TLS it must be __Host-");
        assert!(Csrf::holds(&with(format!("__Host-csrf={TOKEN}")), true, TOKEN));
        assert!(!Csrf::holds(&with(format!("csrf={TOKEN}")), false, &TOKEN.replace('0', "1")));
        assert!(!Csrf::holds(&with("csrf=".into()), false, ""));
        assert!(!Csrf::holds(&TestRequest::post().to_http_request(), false, ""));
    }

    #[test]
    fn another_site_is_recognised() {
        let req = |headers: &[(&'static str, &'static str)]| {
            headers
                .iter()
                .fold(TestRequest::post().insert_header(("host", "users.example:80")), |r, h| r.insert_header(*h))
                .to_http_request()
        };
        assert!(same_origin(&req(&[])));
        assert!(same_origin(&req(&[("origin", "http://users.example:80")])));
        assert!(!same_origin(&req(&[("origin", "http://evil.example")])));
        assert!(!same_origin(&req(&[("origin", "null")])));
        assert!(!same_origin(&req(&[("sec-fetch-site", "cross-site"), ("origin", "http://users.example:80")])));
        assert!(!same_origin(&req(&[("sec-fetch-site", "same-site")])));
        assert!(same_origin(&req(&[("sec-fetch-site", "same-origin")])));
    }

    #[test]
    fn hex_is_hex() {
        assert_eq!(hex(&[0, 255, 16]), "00ff10");
        assert_ne!(random_id(), random_id());
    }
}
