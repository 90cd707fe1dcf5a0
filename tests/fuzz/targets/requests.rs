//! The head of a request: its query on the first line, a header on each of the others.

#![no_main]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::test::TestRequest;
use libfuzzer_sys::fuzz_target;
use user_app::config::{Config, Credentials, Database, Keys, Rates};
use user_app::front::{self, Front};
use user_app::routes::{conditions, listing, media};
use user_app::security;

/// Where users are led to from http.
const URL: &str = "https://app.example.com";

/// An app whose front is the port that the requests come by.
static CONFIG: LazyLock<Config> = LazyLock::new(|| Config {
    listen: "127.0.0.1:0".into(),
    metrics_listen: "127.0.0.1:0".into(),
    database: Database {
        host: "127.0.0.1".into(),
        port: 1,
        read_host: None,
        read_port: 1,
        credentials: Credentials::Folder(PathBuf::new()),
        tls: false,
        pool: 1,
        read_pool: 1,
    },
    workers: 1,
    deadline: Duration::from_secs(1),
    drain: Duration::ZERO,
    rates: Rates { writes: 0, reads: 0 },
    keys: Keys { all: 1, per_client: 1 },
    sweep_every: Duration::from_secs(60),
    front: Some(Front::parse("[::]:8080".into(), URL, "10.0.0.0/8, 2001:db8::/32").expect("a front")),
    pod: "fuzz".into(),
});

fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|byte| *byte == b'\n');
    let query = lines.next().and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default();
    let (list, wrong) = listing::parse(query, 50);
    assert!((1..=listing::MAX_LIMIT).contains(&list.limit));
    assert_eq!(list.search, list.search.trim());
    assert!(wrong.is_some() || listing::is_text(query), "what is no text is told");

    let peer: SocketAddr = "10.0.0.1:4711".parse().expect("an address");
    let mut request = TestRequest::get().uri("/users").peer_addr(peer);
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(&line[colon + 1..]));
        if let (Ok(name), Ok(value)) = (name, value) {
            request = request.append_header((name, value));
        }
    }
    let request = request.to_http_request();
    let headers = request.headers();

    let condition = conditions::of_write(headers);
    let is_tied = headers.contains_key("if-match") || headers.contains_key("if-none-match");
    assert!(is_tied || condition == user_app::store::Condition::default());
    conditions::has(headers, 1_700_000_000_000_000);

    media::is(headers, "application/json");
    let takes = ["application/json", "text/html"].map(|kind| media::is_acceptable(headers, kind));
    assert!(headers.contains_key("accept") || takes == [true, true]);

    assert!(front::client(&request, &CONFIG).is_some());
    if let Some(place) = front::by_https(&request, &CONFIG) {
        assert_eq!(place, format!("{URL}/users"), "nobody is led elsewhere");
    }

    for secure in [false, true] {
        let csrf = security::Csrf::of(&request, secure);
        assert_eq!(csrf.token.len(), 32);
        let is_known = csrf.cookie.is_none();
        assert_eq!(security::Csrf::holds(&request, secure, &csrf.token), is_known && security::same_origin(&request));
        assert!(!security::Csrf::holds(&request, secure, ""));
    }
});
