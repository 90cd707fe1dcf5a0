//! HTTP as its standard (RFC 9110) has it: methods, preconditions, media types, and bytes that are no text.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use testbed::http::{Answer, form};

use crate::support::app::App;

const ADA: &str = r#"{"name":"Ada","email":"ada@example.org"}"#;
const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// The status of what a connection answers to these bytes.
fn raw(app: &App, request: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(app.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request).unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    String::from_utf8_lossy(&head[9..]).parse().unwrap()
}

/// A request with this body, whatever its bytes are.
fn with_body(method: &str, path: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[test]
fn a_method_that_an_address_does_not_answer_to_is_told_the_ones_it_does() {
    let app = App::start();
    for (path, allowed) in [
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/users", "GET, HEAD, POST, OPTIONS"),
        ("/users/1", "GET, HEAD, POST, OPTIONS"),
        ("/users/1/edit", "GET, HEAD, OPTIONS"),
        ("/info", "GET, HEAD, OPTIONS"),
        ("/api/v1/users", "GET, HEAD, POST, OPTIONS"),
        ("/api/v1/users/1", "GET, HEAD, PUT, DELETE, OPTIONS"),
        ("/api/v1/openapi.json", "GET, HEAD, OPTIONS"),
    ] {
        for method in ["PATCH", "TRACE", "PROPFIND"] {
            let answer = app.send(method, path, &[], "");
            assert_eq!((answer.status, answer.header("allow")), (405, allowed), "{method} {path}");
        }
        let options = app.send("OPTIONS", path, &[], "");
        assert_eq!((options.status, options.header("allow"), options.body.as_str()), (204, allowed, ""), "{path}");
    }
    assert_eq!(app.send("OPTIONS", "*", &[], "").status, 204, "the server as a whole");
    assert_eq!(app.send("OPTIONS", "/nowhere", &[], "").status, 404);
}

#[test]
fn head_is_get_without_the_body() {
    let app = App::start();
    assert_eq!(app.json("POST", "/api/v1/users", "", ADA).status, 201);
    for path in
        ["/healthz", "/users", "/users/1", "/users/new", "/info", "/api/v1/users", "/api/v1/users/1", "/nowhere"]
    {
        let (get, head) = (app.get(path), app.send("HEAD", path, &[], ""));
        let told = |answer: &Answer| {
            ["content-length", "content-type", "etag", "cache-control"].map(|name| answer.header(name).to_owned())
        };
        assert_eq!((head.status, told(&head)), (get.status, told(&get)), "{path}");
    }
}

#[test]
fn a_write_can_be_tied_to_any_of_several_versions() {
    let app = App::start();
    let made = app.json("POST", "/api/v1/users", "", ADA);
    let (path, etag) = (made.header("location").to_owned(), made.header("etag").to_owned());
    let put = |name: &str, value: &str| app.send("PUT", &path, &[JSON, (name, value)], ADA);
    for none in [
        "\"1\"",
        "\"1\", \"2\"",
        "garbage",
        "",
        &format!("W/{etag}"),
        "\"-300000000000000000\"",
        etag.trim_matches('"'),
    ] {
        assert_eq!(put("if-match", none).status, 412, "{none:?}");
    }
    assert_eq!(put("if-match", "*").status, 200, "whatever it is now");
    let etag = app.get(&path).header("etag").to_owned();
    let changed = put("if-match", &format!("W/\"9\" ,\"1\",{etag}, \"a,b\""));
    assert_eq!(changed.status, 200, "one of a list");
    let etag = changed.header("etag").to_owned();
    let twice = app.send("PUT", &path, &[JSON, ("if-match", "\"1\""), ("if-match", &etag)], ADA);
    assert_eq!(twice.status, 200, "a list in two headers");

    let etag = twice.header("etag").to_owned();
    assert_eq!(put("if-none-match", "*").status, 412, "only where there is nobody");
    assert_eq!(put("if-none-match", &format!("\"1\", W/{etag}")).status, 412, "only if it is none of these");
    assert_eq!(put("if-none-match", "\"1\"").status, 200);

    let delete = |path: &str, headers: &[(&str, &str)]| app.send("DELETE", path, headers, "").status;
    assert_eq!(delete(&path, &[("if-match", "\"1\"")]), 412, "a removal, too");
    assert_eq!(app.get(&path).status, 200);
    assert_eq!(delete("/api/v1/users/99", &[("if-match", "*")]), 404);
    assert_eq!(app.send("PUT", "/api/v1/users/99", &[JSON, ("if-match", "*")], ADA).status, 404);
    let etag = app.get(&path).header("etag").to_owned();
    assert_eq!(delete(&path, &[("if-match", &format!("\"1\", {etag}"))]), 204);
}

#[test]
fn who_has_the_version_already_is_sent_it_no_second_time() {
    let app = App::start();
    let made = app.json("POST", "/api/v1/users", "", ADA);
    let (path, etag) = (made.header("location"), made.header("etag"));
    let read = |method: &str, tags: &str| app.send(method, path, &[("if-none-match", tags)], "");
    for tags in [etag, "*", &format!("\"1\", W/{etag}")] {
        let same = read("GET", tags);
        assert_eq!((same.status, same.header("etag"), same.body.as_str()), (304, etag, ""), "{tags}");
        assert_eq!(same.header("cache-control"), "no-store");
        assert_eq!(read("HEAD", tags).status, 304);
    }
    assert_eq!(read("GET", "\"1\"").status, 200);
    assert_eq!(app.send("GET", "/api/v1/users/99", &[("if-none-match", "*")], "").status, 404);
}

#[test]
fn bytes_that_are_no_text_are_refused_wherever_they_come() {
    let app = App::start();
    let form = "application/x-www-form-urlencoded";
    let page = app.get("/users/new");
    let (csrf, key) = (page.hidden("csrf"), page.hidden("key"));
    for (kind, path, body) in [
        ("application/json", "/api/v1/users", b"{\"name\":\"A\xff\",\"email\":\"a@b.cd\"}".as_slice()),
        ("application/json", "/api/v1/users", b"\xff\xfe{\0}\0"),
        (form, "/users", b"name=\xc3\x28"),
        (form, "/users", b"name=%C3%28&email=a%40b.cd"),
        (form, "/users/1", b"name=a&email=%ff"),
        (form, "/users/1/delete", b"key=%ED%A0%80"),
    ] {
        assert_eq!(raw(&app, &with_body("POST", path, kind, body)), 400, "{path} {}", String::from_utf8_lossy(body));
    }
    assert_eq!(app.get("/api/v1/users?q=%ff").status, 400);
    assert_eq!(app.get("/users?q=%ff").status, 200, "people get what can be read");
    for path in ["/users/%ff", "/users/1%00", "/api/v1/users/%ff", "/api/v1/users/%00", "/%ff"] {
        let answer = app.get(path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(!answer.header("content-security-policy").is_empty(), "{path}");
        if path.starts_with("/api") {
            assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
        }
    }
    // NUL, which PostgreSQL takes in no text.
    let cookie = format!("csrf={csrf}");
    for (field, value) in [("key", "a\0b"), ("name", "A\0"), ("email", "a\0@b.cd"), ("gender", "\0"), ("version", "\0")]
    {
        let mut fields = vec![("csrf", csrf.as_str()), ("key", &key), ("name", "Ada"), ("email", "nul@example.org")];
        fields.retain(|(name, _)| *name != field);
        fields.push((field, value));
        let answer = app.send("POST", "/users", &[FORM, ("cookie", &cookie)], &testbed::http::form(&fields));
        assert!(matches!(answer.status, 303 | 409 | 422), "{field}: {answer:?}");
    }
    assert_eq!(app.get("/users?q=%00").status, 200);
    assert_eq!(app.get("/api/v1/users?before=%00").status, 400);
}

#[test]
fn versions_that_no_user_can_have_are_no_fault_of_the_server() {
    let app = App::start();
    assert_eq!(app.json("POST", "/api/v1/users", "", ADA).status, 201);
    let edit = app.get("/users/1/edit");
    for version in ["-300000000000000000", "-1", "9223372036854775807", "-9223372036854775808", "x"] {
        let saved = app.submit(&edit, "/users/1", &[("version", version), ("name", "A"), ("email", "a@b.cd")]);
        assert!(matches!(saved.status, 303 | 409), "{version}: {saved:?}");
    }
}

#[test]
fn a_second_cookie_of_the_same_name_locks_nobody_out() {
    let app = App::start();
    // Another program on this host, or an attacker beside it, has set one that is sent first.
    for other in ["csrf=planted", "csrf=00000000000000000000000000000000", "csrf="] {
        let page = app.send("GET", "/users/new", &[("cookie", other)], "");
        let own = page.header("set-cookie").split(';').next().unwrap_or_default().to_owned();
        let both = if own.is_empty() { other.to_owned() } else { format!("{other}; {own}") };
        let again = app.send("GET", "/users/new", &[("cookie", &both)], "");
        assert_eq!(again.header("set-cookie"), "", "{other}: the browser has its cookie");
        for page in [&page, &again] {
            let fields = form(&[("csrf", &page.hidden("csrf")), ("key", &page.hidden("key")), ("name", "")]);
            let sent = app.send("POST", "/users", &[FORM, ("cookie", &both)], &fields);
            assert_eq!(sent.status, 422, "{other}: the form is read, {sent:?}");
        }
    }
}

#[test]
fn content_is_taken_by_its_media_type_and_charset() {
    let app = App::start();
    let status = |path: &str, headers: &[(&str, &str)], body: &str| app.send("POST", path, headers, body).status;
    let json = |kind: &str| status("/api/v1/users", &[("content-type", kind)], "{}");
    for taken in [
        "application/json",
        "Application/JSON; charset=UTF-8",
        "application/json;charset=\"utf-8\"",
        "application/json ; v=1",
    ] {
        assert_eq!(json(taken), 422, "{taken}");
    }
    for refused in [
        "",
        "text/json",
        "application/json; charset=iso-8859-1",
        "application/jsonx",
        "application/x-www-form-urlencoded",
    ] {
        assert_eq!(json(refused), 415, "{refused}");
    }
    let fields = "name=a&email=b";
    let form = |kind: &str| status("/users", &[("content-type", kind)], fields);
    for taken in ["application/x-www-form-urlencoded", "Application/X-WWW-Form-URLEncoded; charset=utf-8"] {
        assert_eq!(form(taken), 403, "{taken}: it is read, and has no token");
    }
    for refused in [
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/json",
        "application/x-www-form-urlencoded;charset=utf-16",
    ] {
        assert_eq!(form(refused), 415, "{refused}");
    }
    assert_eq!(status("/api/v1/users", &[JSON, ("content-encoding", "gzip")], "{}"), 415);
    assert_eq!(status("/users", &[FORM, ("content-encoding", "br")], fields), 415);
    assert_eq!(status("/api/v1/users", &[JSON, ("content-encoding", "identity")], "{}"), 422);
    assert_eq!(
        status("/api/v1/users", &[JSON, ("idempotency-key", "a"), ("idempotency-key", "b")], ADA),
        400,
        "two keys"
    );
}

#[test]
fn a_reader_that_takes_no_such_content_is_told_so() {
    let app = App::start();
    let status = |path: &str, accept: &str| app.send("GET", path, &[("accept", accept)], "").status;
    for taken in [
        "*/*",
        "application/*",
        "application/json",
        "APPLICATION/json;q=0.1",
        "text/html, application/json;q=0.9",
        "text/*, */*;q=0.1",
        "application/json; charset=utf-8",
        "",
        "nonsense",
    ] {
        assert_eq!(status("/api/v1/users", taken), 200, "{taken}");
    }
    for refused in [
        "text/html",
        "text/*",
        "application/json;q=0",
        "application/xml, text/*;q=0.5",
        "application/json;q=0, */*",
        "*/*;q=0.000",
    ] {
        let answer = app.send("GET", "/api/v1/users", &[("accept", refused)], "");
        assert_eq!((answer.status, answer.header("content-type")), (406, "application/problem+json"), "{refused}");
    }
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
    for (path, accept, expected) in [
        ("/users", browser, 200),
        ("/users", "text/*", 200),
        ("/users", "application/json", 406),
        ("/users", "text/html;q=0, */*", 406),
        ("/healthz", "application/json", 200),
        ("/favicon.svg", "image/png", 200),
        ("/nowhere", "image/png", 404),
    ] {
        assert_eq!(status(path, accept), expected, "{path} {accept}");
    }
    let refused = app.send("POST", "/api/v1/users", &[JSON, ("accept", "text/html")], ADA);
    assert_eq!(refused.status, 406);
    assert_eq!(app.get("/api/v1/users").json()["users"], serde_json::json!([]), "and nothing was written");
}

#[test]
fn no_header_and_no_bytes_are_answered_by_a_server_error() {
    let app = App::start();
    let made = app.json("POST", "/api/v1/users", "", ADA);
    let etag = made.header("etag").to_owned();
    let client = std::cell::RefCell::new(app.client());
    let pieces = proptest::collection::vec(
        prop_oneof![
            Just(etag),
            Just("*".to_owned()),
            Just("W/".to_owned()),
            "[\"*,;=/ q01.a-z]{0,12}",
            "\"-?[0-9]{1,22}\"",
            "(text|application|\\*)/(json|html|\\*)(;q=[0-9.-]{0,4})?",
            "csrf=[0-9a-f]{30,34};?",
            "[ -~é李]{0,30}",
        ],
        0..5,
    );
    let value = pieces.prop_map(|pieces| pieces.join(",").trim().to_owned());
    let names = prop::sample::select(vec![
        "if-match",
        "if-none-match",
        "accept",
        "cookie",
        "content-type",
        "content-encoding",
        "idempotency-key",
        "origin",
        "sec-fetch-site",
        "x-forwarded-for",
        "x-request-id",
    ]);
    let requests = prop::sample::select(vec![
        ("GET", "/api/v1/users/1"),
        ("PUT", "/api/v1/users/1"),
        ("PUT", "/api/v1/users/2"),
        ("DELETE", "/api/v1/users/2"),
        ("POST", "/api/v1/users"),
        ("POST", "/users"),
        ("POST", "/users/1"),
        ("POST", "/users/1/delete"),
        ("GET", "/users"),
        ("OPTIONS", "/users"),
    ]);
    let body = prop_oneof![
        Just(ADA.to_owned()),
        "[{}\"a-z:,%0-9&=]{0,40}",
        "(name|email|key|csrf|version|gender)=[%0-9a-f]{0,12}"
    ];
    let mut runner = TestRunner::new(Config { cases: 600, ..Config::default() });
    runner
        .run(
            &(requests, proptest::collection::vec((names, value), 0..4), body),
            |((method, path), mut headers, body)| {
                if !headers.iter().any(|(name, _)| *name == "content-type") && path.starts_with("/api") {
                    headers.push(("content-type", "application/json".to_owned()));
                }
                let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let body = if method == "GET" || method == "OPTIONS" { "" } else { body.as_str() };
                let answer = client.borrow_mut().send(method, path, &headers, body).unwrap();
                prop_assert!(answer.status < 500, "{method} {path} {headers:?} {body}: {answer:?}");
                Ok(())
            },
        )
        .unwrap();
    let mut random = TestRunner::new(Config { cases: 100, ..Config::default() });
    let bytes = proptest::collection::vec(any::<u8>(), 1..300);
    let kinds = prop::sample::select(vec![("application/json", "/api/v1/users"), (FORM.1, "/users")]);
    random
        .run(&(bytes, kinds), |(bytes, (kind, path))| {
            let status = raw(&app, &with_body("POST", path, kind, &bytes));
            prop_assert!(matches!(status, 400 | 403 | 422), "{status}: {bytes:?}");
            Ok(())
        })
        .unwrap();
}
