//! The JSON API.

use std::thread;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use testbed::http::encode;

use crate::support::app::App;
use crate::support::postgres::Postgres;

const ADA: &str = r#"{"name":" Ada ","email":"Ada@example.org","gender":"female"}"#;

#[test]
fn a_user_is_created_read_changed_and_removed() {
    let app = App::start();
    let made = app.json("POST", "/api/v1/users", "", ADA);
    assert_eq!(made.status, 201, "{made:?}");
    let user = made.json();
    assert_eq!(
        (&user["name"], &user["email"], &user["gender"]),
        (&json!("Ada"), &json!("Ada@example.org"), &json!("female"))
    );
    let path = made.header("location").to_owned();
    let read = app.get(&path);
    assert_eq!((read.status, read.json(), read.header("etag")), (200, user, made.header("etag")));

    let change = r#"{"name":"Ada Lovelace","email":"ada@example.com"}"#;
    let stale = app.send("PUT", &path, &[("content-type", "application/json"), ("if-match", "\"1\"")], change);
    assert_eq!(stale.status, 412, "{stale:?}");
    let seen = read.header("etag");
    let changed = app.send("PUT", &path, &[("content-type", "application/json"), ("if-match", seen)], change);
    assert_eq!((changed.status, &changed.json()["gender"]), (200, &json!("undisclosed")));
    assert_ne!(changed.header("etag"), seen);

    assert_eq!(app.json("DELETE", &path, "", "").status, 204);
    for (method, body) in [("GET", ""), ("DELETE", ""), ("PUT", change)] {
        let gone = app.json(method, &path, "", body);
        assert_eq!((gone.status, gone.header("content-type")), (404, "application/problem+json"), "{method}");
    }
}

#[test]
fn the_list_is_newest_first_and_pages_by_key() {
    let app = App::start();
    for n in 1..=7 {
        let body = format!(r#"{{"name":"User {n}","email":"u{n}@example.org"}}"#);
        assert_eq!(app.json("POST", "/api/v1/users", "", &body).status, 201);
    }
    let page = |query: &str| {
        let list = app.get(&format!("/api/v1/users?{query}")).json();
        let names: Vec<String> =
            list["users"].as_array().unwrap().iter().map(|u| u["name"].as_str().unwrap()[5..].into()).collect();
        (names.concat(), list["older"].as_i64(), list["newer"].as_i64())
    };
    let (names, older, newer) = page("limit=3");
    assert_eq!((names.as_str(), newer), ("765", None));
    let (names, older, newer) = page(&format!("limit=3&before={}", older.unwrap()));
    assert_eq!(names, "432");
    let (names, last, _) = page(&format!("limit=3&before={}", older.unwrap()));
    assert_eq!((names.as_str(), last), ("1", None));
    assert_eq!(page(&format!("limit=3&after={}", newer.unwrap())).0, "765");
    assert_eq!(page("q=USER%203").0, "3", "whatever the case");
    assert_eq!(page("q=u5%40").0, "5", "by address");
    for literal in ["%25", "_ser", "%5C"] {
        assert_eq!(page(&format!("q={literal}")).0, "", "{literal} is taken as it is");
    }
    for wrong in ["limit=0", "limit=101", "limit=x", "before=1&after=2", "page=2"] {
        assert_eq!(app.get(&format!("/api/v1/users?{wrong}")).status, 400, "{wrong}");
    }
}

#[test]
fn errors_are_problem_documents_that_name_what_is_wrong() {
    let app = App::start();
    assert_eq!(app.json("POST", "/api/v1/users", "", ADA).status, 201);
    let taken = app.json("POST", "/api/v1/users", "", r#"{"name":"Eve","email":"ADA@EXAMPLE.ORG"}"#);
    assert_eq!((taken.status, &taken.json()["errors"][0]["field"]), (409, &json!("email")), "{taken:?}");
    let invalid = app.json("POST", "/api/v1/users", "", r#"{"name":"","email":"x","gender":"y"}"#);
    let fields: Vec<_> = invalid.json()["errors"].as_array().unwrap().iter().map(|e| e["field"].clone()).collect();
    assert_eq!((invalid.status, fields), (422, vec![json!("name"), json!("email"), json!("gender")]));

    let large = format!(r#"{{"name":"{}","email":"a@b.cd"}}"#, "x".repeat(17_000));
    let status = |kind: &str, body: &str| app.send("POST", "/api/v1/users", &[("content-type", kind)], body).status;
    assert_eq!(status("application/json", "{"), 400);
    assert_eq!(status("application/json", r#"{"name":"A","email":"a@b.cd","admin":true}"#), 400, "an unknown field");
    assert_eq!(status("application/json", &large), 413);
    assert_eq!(status("text/plain", ADA), 415);
    let other_site = [("content-type", "application/json"), ("sec-fetch-site", "cross-site")];
    assert_eq!(app.send("POST", "/api/v1/users", &other_site, ADA).status, 403);
    for path in ["/api/v1/users/x", "/api/v1/users/99999999999999999999", "/api/v2"] {
        let answer = app.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (404, "application/problem+json"), "{path}");
    }
    assert_eq!(app.send("PATCH", "/api/v1/users", &[], "").status, 405);
}

#[test]
fn a_key_sent_again_has_one_effect_and_one_answer() {
    let app = App::start();
    let first = app.json("POST", "/api/v1/users", "k1", ADA);
    let again = app.json("POST", "/api/v1/users", "k1", ADA);
    assert_eq!((again.status, &again.body, again.header("location")), (201, &first.body, first.header("location")));
    assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), ("", "true"));
    let other = app.json("POST", "/api/v1/users", "k1", r#"{"name":"Eve","email":"eve@example.org"}"#);
    assert_eq!((other.status, &other.json()["type"]), (422, &json!("/problems/key-reused")));

    let path = first.header("location");
    let change = r#"{"name":"Ada","email":"ada@example.com"}"#;
    let changed = app.json("PUT", path, "k2", change);
    assert_eq!(app.json("PUT", path, "k3", ADA).status, 200);
    assert_eq!(app.json("PUT", path, "k2", change).body, changed.body, "the saved answer");
    assert_eq!(app.get(path).json()["email"], "Ada@example.org", "and no second effect");

    assert_eq!(app.json("DELETE", path, "k4", "").status, 204);
    let again = app.json("DELETE", path, "k4", "");
    assert_eq!((again.status, again.header("idempotency-replayed")), (204, "true"));
    assert_eq!(app.json("POST", "/api/v1/users", "k1", ADA).body, first.body, "although the user is gone");
    assert_eq!(
        app.send(
            "POST",
            "/api/v1/users",
            &[("content-type", "application/json"), ("idempotency-key", &"k".repeat(129))],
            ADA
        )
        .status,
        400
    );
}

#[test]
fn one_key_at_two_instances_at_once_has_one_effect() {
    let database = App::database();
    let port = Postgres::shared().port;
    let apps = [App::on(port, &database), App::on(port, &database)];
    for round in 0..20 {
        let body = format!(r#"{{"name":"Round {round}","email":"r{round}@example.org"}}"#);
        let key = format!("key-{round}");
        let answers: Vec<_> = thread::scope(|scope| {
            let senders: Vec<_> = (0..8)
                .map(|n| {
                    let (app, key, body) = (&apps[n % 2], &key, &body);
                    scope.spawn(move || app.json("POST", "/api/v1/users", key, body))
                })
                .collect();
            senders.into_iter().map(|s| s.join().unwrap()).collect()
        });
        for answer in &answers {
            assert_eq!((answer.status, &answer.body), (201, &answers[0].body));
        }
        let replayed = answers.iter().filter(|a| a.header("idempotency-replayed") == "true").count();
        assert_eq!(replayed, 7);
    }
    assert_eq!(Postgres::shared().psql(&database, "SELECT count(*) FROM users"), "20");
    assert_eq!(Postgres::shared().psql(&database, "SELECT count(*), sum(replays) FROM idempotency_keys"), "20|140");
}

#[test]
fn aged_keys_are_forgotten() {
    let app_database = App::database();
    let postgres = Postgres::shared();
    let app = App::on(postgres.port, &app_database);
    assert_eq!(app.json("POST", "/api/v1/users", "old", ADA).status, 201);
    postgres.psql(&app_database, "UPDATE idempotency_keys SET created_at = now() - interval '25 hours'");
    // What the app does every five minutes, by the same statement.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let removed = runtime.block_on(async {
        let url = format!("postgres://app@127.0.0.1:{}/{app_database}", postgres.port);
        let mut conn =
            <diesel_async::AsyncPgConnection as diesel_async::AsyncConnection>::establish(&url).await.unwrap();
        user_app::db::Operation::run(&user_app::store::Expire, &mut conn).await.unwrap()
    });
    assert_eq!(removed, 1);
    assert_eq!(app.json("POST", "/api/v1/users", "old", ADA).status, 409, "the key is new again, the address is not");
}

#[test]
fn no_text_is_answered_by_a_server_error() {
    let app = App::start();
    let blank = app.get("/users/new");
    let client = std::cell::RefCell::new(app.client());
    let mut runner = TestRunner::new(Config { cases: 250, ..Config::default() });
    let text =
        || prop_oneof![any::<String>(), "[a-z]{1,8}@[a-z]{1,8}\\.[a-z]{2,3}", "\\PC{0,120}", "[\\x00-\\x20]{0,5}"];
    runner
        .run(&(text(), text(), proptest::option::of(text())), |(name, email, gender)| {
            let mut client = client.borrow_mut();
            let body = json!({"name": name, "email": email, "gender": gender}).to_string();
            let answer = client.send("POST", "/api/v1/users", &[("content-type", "application/json")], &body).unwrap();
            prop_assert!(matches!(answer.status, 201 | 409 | 422), "{:?} {}", answer, body);
            if answer.status == 201 {
                let kept = answer.json();
                prop_assert_eq!(kept["name"].as_str(), Some(name.trim()));
            }
            let found = client.send("GET", &format!("/api/v1/users?q={}", encode(&name)), &[], "").unwrap();
            prop_assert!(matches!(found.status, 200 | 414), "{:?}", found);
            let page = client.send("GET", &format!("/users?q={}", encode(&email)), &[], "").unwrap();
            prop_assert!(matches!(page.status, 200 | 414), "{:?}", page);
            let fields =
                [("name", name.as_str()), ("email", &email), ("gender", gender.as_deref().unwrap_or_default())];
            let form = app.submit(&blank, "/users", &fields);
            // Of one form sent with many values, one takes effect.
            prop_assert!(matches!(form.status, 303 | 409 | 422), "{:?}", form);
            Ok(())
        })
        .unwrap();
}

#[test]
fn every_answer_carries_the_headers_that_protect() {
    let app = App::start();
    for path in ["/users", "/users/new", "/users/1", "/nowhere", "/api/v1/users", "/api/v1/nowhere", "/healthz"] {
        let answer = app.get(path);
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(
            (answer.header("x-content-type-options"), answer.header("referrer-policy")),
            ("nosniff", "same-origin")
        );
        assert_eq!(answer.header("x-request-id").len(), 32);
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    let id = app.send("GET", "/users", &[("x-request-id", "abc-1")], "");
    assert_eq!(id.header("x-request-id"), "abc-1");
    assert!(app.logged().contains(r#""id":"abc-1""#));
}

#[test]
fn oversized_requests_are_refused() {
    let app = App::start();
    assert_eq!(app.get(&format!("/users?q={}", "a".repeat(5000))).status, 414);
    let long = "a".repeat(17_000);
    assert_eq!(app.send("GET", "/users", &[("x-long", &long)], "").status, 431);
    assert_eq!(app.send("HEAD", "/users", &[], "").status, 200);
}
