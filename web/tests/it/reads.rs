//! Reads that take too long: they end, they don't pile up, and writes go on beside them.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::app::App;
use crate::support::eventually;
use crate::support::postgres::Postgres;

/// Makes every search take a minute.
fn slow_down(database: &str) {
    Postgres::shared().psql(
        database,
        "CREATE OR REPLACE FUNCTION search_pattern(folded text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS \
         'BEGIN PERFORM pg_sleep(60); RETURN folded; END'",
    );
}

fn running(database: &str) -> u32 {
    let count = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND state = 'active' AND pid <> pg_backend_pid()"
    );
    Postgres::shared().psql("postgres", &count).parse().unwrap()
}

#[test]
fn searches_that_take_too_long_end_and_leave_room_for_writes() {
    let database = App::database();
    let app = App::with(Postgres::shared().port, &database, &[("DB_POOL", "6"), ("RATE_LIMIT_READS", "0")]);
    assert_eq!(app.get("/users").status, 200);
    slow_down(&database);
    let (statuses, writes, most) = thread::scope(|scope| {
        let app = &app;
        let searches: Vec<_> = (0..12)
            .map(|n| {
                scope.spawn(move || {
                    let started = Instant::now();
                    (app.get(&format!("/api/v1/users?q=slow{n}")), started.elapsed())
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(500));
        let (mut writes, mut most) = (Vec::new(), 0);
        for n in 0..10 {
            let body = format!(r#"{{"name":"A","email":"w{n}@example.org"}}"#);
            let started = Instant::now();
            assert_eq!(app.json("POST", "/api/v1/users", "", &body).status, 201);
            writes.push(started.elapsed());
            most = most.max(running(&database));
            thread::sleep(Duration::from_millis(100));
        }
        let statuses: Vec<_> = searches.into_iter().map(|search| search.join().unwrap()).collect();
        (statuses, writes, most)
    });
    for (answer, took) in &statuses {
        assert_eq!(answer.status, 503, "{answer:?} after {took:?}");
        assert!(!answer.header("retry-after").is_empty() && *took < Duration::from_secs(17), "{took:?}");
    }
    let told = statuses.iter().filter(|(answer, _)| answer.json()["type"] == "/problems/too-slow").count();
    assert!(told >= 4, "{told} of 12 were told that it asks for too much");
    // Six connections, the watcher's and the chores'.
    assert!(most <= 8, "{most} queries at once");
    assert!(writes.iter().max() < Some(&Duration::from_secs(1)), "{writes:?}");
    eventually("the end of all queries", Duration::from_secs(3), || running(&database) == 0);
    let page = app.get("/users?q=slow");
    assert!(page.status == 503 && page.body.contains("The search took too long"), "{page:?}");
    assert_eq!(app.get("/users").status, 200, "the list is as quick as ever");
}

#[test]
fn what_is_too_much_for_the_primary_is_asked_of_a_standby() {
    let primary = Postgres::start(&["fsync=off"]);
    let database = primary.database();
    crate::support::app::migrate(primary.port, &database);
    let standby = primary.standby("reader");
    let port = standby.port.to_string();
    let settings = [("DB_READ_HOST", "127.0.0.1"), ("DB_READ_PORT", port.as_str())];
    let app = App::with(primary.port, &database, &settings);
    // Slow on the primary alone.
    primary.psql(
        &database,
        "CREATE OR REPLACE FUNCTION search_pattern(folded text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS \
         'BEGIN IF NOT pg_is_in_recovery() THEN PERFORM pg_sleep(60); END IF; RETURN ''%'' || folded || ''%''; END'; \
         INSERT INTO users (name, email, gender) VALUES ('Ada', 'ada@example.org', 'female')",
    );
    eventually("the standby has it", Duration::from_secs(10), || {
        standby.psql(&database, "SELECT count(*) FROM users") == "1"
    });
    // No standby has replayed as much: the primary is asked first.
    let position = [("x-data-position", "9-0/0")];
    let answer = app.send("GET", "/api/v1/users?q=ada", &position, "");
    assert_eq!((answer.status, answer.header("x-data-stale")), (200, "true"), "{answer:?}");
}
