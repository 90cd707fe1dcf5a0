//! Lists and searches that a standby answers: only while it shows what a reader must find, and unseen when it fails.

use std::time::{Duration, Instant};

use testbed::http::{Answer, form};
use testbed::proxy::Proxy;

use crate::support::app::{App, migrate};
use crate::support::eventually;
use crate::support::postgres::Postgres;

const ADA: &str = r#"{"name":"Ada","email":"ada@example.org"}"#;

/// A primary, its standby behind a proxy, and the app, which has had lists from the standby.
struct Stack {
    primary: Postgres,
    standby: Postgres,
    proxy: Proxy,
    database: String,
    app: App,
}

fn stack() -> Stack {
    let primary = Postgres::start(&["fsync=off"]);
    let database = primary.database();
    migrate(primary.port, &database);
    // A role as the cluster's: it may not see what superusers do.
    primary.psql(
        &database,
        "CREATE ROLE plain LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO plain; \
         GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO plain",
    );
    let standby = primary.standby("reader");
    let proxy = Proxy::to(standby.port).unwrap();
    let port = proxy.port.to_string();
    let settings = [("DB_READ_HOST", "127.0.0.1"), ("DB_READ_PORT", port.as_str()), ("DB_USER", "plain")];
    let app = App::with(primary.port, &database, &settings);
    let stack = Stack { primary, standby, proxy, database, app };
    stack.answers_lists();
    stack
}

impl Stack {
    fn count(&self, result: &str) -> f64 {
        self.app.metric(&format!("user_app_standby_reads_total{{result=\"{result}\"}}"))
    }

    /// Waits until the standby has answered another list.
    fn answers_lists(&self) {
        let before = self.count("answered");
        eventually("the standby answers", Duration::from_secs(20), || {
            assert_eq!(self.app.get("/users").status, 200);
            self.count("answered") > before
        });
    }

    fn replay(&self, how: &str) {
        self.standby.psql(&self.database, &format!("SELECT pg_wal_replay_{how}()"));
    }

    /// Reads as somebody who has this header, and expects a list that is not marked as stale.
    fn list(&self, path: &str, header: (&str, &str)) -> Answer {
        let answer = self.app.send("GET", path, &[header], "");
        assert_eq!((answer.status, answer.header("x-data-stale")), (200, ""), "{answer:?}");
        assert!(!answer.body.contains("Possibly out of date"), "{answer:?}");
        answer
    }
}

/// The cookie with the position, as a browser sends it back.
fn position(answer: &Answer) -> &str {
    let set = answer.headers.iter().find(|(n, v)| n == "set-cookie" && v.starts_with("position="));
    let (cookie, attributes) = set.unwrap_or_else(|| panic!("no position: {answer:?}")).1.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; Max-Age=30; HttpOnly; SameSite=Lax");
    cookie
}

#[test]
fn who_has_just_registered_finds_himself_while_the_standby_lags() {
    let stack = stack();
    let app = &stack.app;
    stack.replay("pause");
    let page = app.get("/users/new");
    let done = app.submit(&page, "/users", &[("name", "Grace"), ("email", "grace@example.org")]);
    assert_eq!(done.status, 303, "{done:?}");
    let mine = ("cookie", position(&done));
    // A thread that has no connection to the standby yet counts it as failed.
    let led_back = || stack.count("behind") + stack.count("failed");
    let before = led_back();
    for path in ["/users", "/users?q=grace", "/api/v1/users", "/api/v1/users?q=grace"] {
        assert!(stack.list(path, mine).body.contains("Grace"), "{path}");
    }
    assert_eq!(led_back(), before + 4.0);

    // A program, by the header.
    let made = app.json("POST", "/api/v1/users", "k", ADA);
    let told = made.header("x-data-position").to_owned();
    assert_eq!(position(&made), format!("position={told}"));
    let again = app.json("POST", "/api/v1/users", "k", ADA);
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, "true"));
    assert!(!again.header("x-data-position").is_empty());
    assert!(stack.list("/api/v1/users?q=ada", ("x-data-position", &told)).body.contains("Ada"));
    let change = app.json("PUT", made.header("location"), "", &ADA.replace("Ada", "Augusta"));
    let told = change.header("x-data-position");
    assert!(stack.list("/api/v1/users?q=august", ("x-data-position", told)).body.contains("Augusta"));

    // Who has removed someone does not see him any more.
    let page = app.get("/users/1/delete");
    let (csrf, key) = (page.hidden("csrf"), page.hidden("key"));
    let cookie = format!("csrf={csrf}");
    let headers = [("content-type", "application/x-www-form-urlencoded"), ("cookie", cookie.as_str())];
    let gone = app.send("POST", "/users/1/delete", &headers, &form(&[("csrf", &csrf), ("key", &key)]));
    assert_eq!(gone.status, 303, "{gone:?}");
    assert!(!stack.list("/users", ("cookie", position(&gone))).body.contains("Grace"));

    // The others see it some seconds later, and no earlier than the standby is found to lag.
    eventually("what is seconds old is seen by all", Duration::from_secs(6), || {
        stack.list("/api/v1/users", ("accept", "*/*")).body.contains("Augusta")
    });
    let on_standby = stack.standby.psql(&stack.database, "SELECT count(*) FROM users");
    assert_eq!(on_standby, "0", "it has replayed nothing of this");

    stack.replay("resume");
    let answered = stack.count("answered");
    eventually("the standby shows it", Duration::from_secs(10), || {
        assert!(stack.list("/users", ("cookie", position(&gone))).body.contains("Augusta"));
        stack.count("answered") > answered
    });
}

#[test]
fn a_forged_position_is_an_answer_of_the_primary() {
    let stack = stack();
    assert_eq!(stack.app.json("POST", "/api/v1/users", "", ADA).status, 201);
    eventually("the standby has her", Duration::from_secs(10), || {
        stack.standby.psql(&stack.database, "SELECT count(*) FROM users") == "1"
    });
    let answered = stack.count("answered");
    let forged =
        ["4294967295-FFFFFFFF/FFFFFFFF", "1-FFFFFFFF/0", "2-0/0", "1-0/g", "-", "9".repeat(200).leak(), "';--"];
    for position in forged {
        for header in [("x-data-position", position.to_owned()), ("cookie", format!("position={position}"))] {
            let started = Instant::now();
            let list = stack.list("/api/v1/users?q=ada", (header.0, &header.1));
            assert_eq!(list.json()["users"][0]["name"], "Ada", "{header:?}");
            assert!(started.elapsed() < Duration::from_secs(2), "{header:?}: {:?}", started.elapsed());
        }
    }
    assert_eq!(stack.count("answered"), answered, "none was the standby's");
    // The latest of several counts, and what is long past is no reason to ask the primary.
    stack.list("/users", ("cookie", "position=1-0/0; position=2-0/0"));
    assert_eq!(stack.count("answered"), answered);
    eventually("the standby answers", Duration::from_secs(10), || {
        stack.list("/users", ("x-data-position", "1-0/1"));
        stack.count("answered") > answered
    });
}

#[test]
fn a_standby_that_dies_or_hangs_is_not_noticed() {
    let stack = stack();
    assert_eq!(stack.app.json("POST", "/api/v1/users", "", ADA).status, 201);
    type Fault = fn(&Proxy, bool);
    let faults: [(&str, Fault); 2] = [("refuses", Proxy::cut), ("is silent", Proxy::swallow)];
    for (name, fault) in faults {
        stack.answers_lists();
        let failed = stack.count("failed");
        fault(&stack.proxy, true);
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            let started = Instant::now();
            assert_eq!(stack.list("/api/v1/users?q=ada", ("accept", "*/*")).json()["users"][0]["name"], "Ada");
            longest = longest.max(started.elapsed());
            std::thread::sleep(Duration::from_millis(50));
        }
        // One attempt, which is given up after 1.5 s.
        assert!(longest < Duration::from_secs(4), "a standby that {name}: {longest:?}");
        assert!(stack.count("failed") > failed, "{name}");
        fault(&stack.proxy, false);
    }
    stack.answers_lists();
    // It takes no longer when its whole server is gone.
    stack.standby.kill().unwrap();
    assert_eq!(stack.list("/api/v1/users?q=ada", ("accept", "*/*")).json()["users"][0]["name"], "Ada");
    assert_eq!(stack.app.metric("user_app_stale_reads_total"), 0.0);
}

#[test]
fn a_search_that_a_standby_ends_is_the_primarys_to_answer_once() {
    let stack = stack();
    // Slow on the standby alone.
    stack.primary.psql(
        &stack.database,
        "CREATE OR REPLACE FUNCTION search_pattern(folded text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS \
         'BEGIN IF pg_is_in_recovery() THEN PERFORM pg_sleep(60); END IF; RETURN ''%'' || folded || ''%''; END'; \
         INSERT INTO users (name, email, gender) VALUES ('Ada', 'ada@example.org', 'female')",
    );
    eventually("the standby has it", Duration::from_secs(10), || {
        stack.standby.psql(&stack.database, "SELECT count(*) FROM users") == "1"
    });
    // Of the two threads only one may have a connection to the standby yet.
    eventually("the standby was too slow", Duration::from_secs(20), || {
        assert_eq!(stack.list("/api/v1/users?q=ada", ("accept", "*/*")).json()["users"][0]["name"], "Ada");
        stack.count("slow") > 0.0
    });
}

#[test]
fn without_standbys_no_position_is_told() {
    let app = App::start();
    let made = app.json("POST", "/api/v1/users", "", ADA);
    assert_eq!((made.status, made.header("x-data-position"), made.header("set-cookie")), (201, "", ""));
    let list = app.send("GET", "/api/v1/users", &[("x-data-position", "2-0/0")], "");
    assert_eq!((list.status, list.header("x-data-stale")), (200, ""));
}
