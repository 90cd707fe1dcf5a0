//! The schema, from nothing and from the version before.

use std::process::Child;
use std::time::Duration;

use crate::support::app::{App, migrate, program};
use crate::support::postgres::Postgres;

const FIRST: &str = include_str!("../../migrations/2026-11-01-000001_users/up.sql");
const SECOND: &str = include_str!("../../migrations/2026-11-01-000002_idempotency_keys/up.sql");

#[test]
fn an_empty_database_becomes_usable_and_a_second_run_does_nothing() {
    let postgres = Postgres::shared();
    let database = postgres.database();
    migrate(postgres.port, &database);
    let applied =
        postgres.psql(&database, "SELECT string_agg(version || run_on::text, ' ') FROM __diesel_schema_migrations");
    migrate(postgres.port, &database);
    assert_eq!(
        postgres.psql(&database, "SELECT string_agg(version || run_on::text, ' ') FROM __diesel_schema_migrations"),
        applied
    );
    let app = App::on(postgres.port, &database);
    assert_eq!(app.json("POST", "/api/v1/users", "", r#"{"name":"A","email":"a@example.org"}"#).status, 201);
}

#[test]
fn the_schema_before_is_brought_up_with_its_users() {
    let postgres = Postgres::shared();
    let database = postgres.database();
    let as_before = format!(
        "{FIRST}; {SECOND}; \
         CREATE TABLE __diesel_schema_migrations (version varchar(50) PRIMARY KEY, run_on timestamp NOT NULL DEFAULT now()); \
         INSERT INTO __diesel_schema_migrations (version) VALUES ('20261101000001'), ('20261101000002'); \
         INSERT INTO users (name, email, gender) VALUES ('Before', 'before@example.org', 'other')"
    );
    postgres.psql(&database, &as_before);
    let waiting = App::unready(postgres.port, &database, &[]);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(waiting.get("/readyz").status, 503, "not ready on a schema that is too old");
    assert_eq!(waiting.get("/healthz").status, 200, "but alive");
    migrate(postgres.port, &database);
    crate::support::eventually("ready", Duration::from_secs(5), || waiting.get("/readyz").status == 200);
    assert_eq!(waiting.get("/api/v1/users?q=befor").json()["users"][0]["email"], "before@example.org");
    // The version before, still running, goes on with its statements.
    postgres.psql(&database, "INSERT INTO users (name, email, gender) VALUES ('Old', 'old@example.org', 'male')");
}

#[test]
fn many_at_once_apply_each_migration_once() {
    let postgres = Postgres::shared();
    let database = postgres.database();
    let runs: Vec<Child> = (0..5)
        .map(|_| program(postgres.port, &database).arg("migrate").stdout(std::process::Stdio::null()).spawn().unwrap())
        .collect();
    for mut run in runs {
        assert!(run.wait().unwrap().success());
    }
    let embedded = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap().count();
    assert_eq!(postgres.psql(&database, "SELECT count(*) FROM __diesel_schema_migrations"), embedded.to_string());
}

#[test]
fn the_search_index_is_built_while_the_version_before_goes_on() {
    let postgres = Postgres::shared();
    let database = App::database();
    // As the version before left it, with users of its own.
    let as_before = "DROP INDEX users_search_grams, idempotency_keys_by_age; \
         ALTER TABLE idempotency_keys DROP COLUMN client; \
         DROP FUNCTION search_grams, search_grams_of, search_terms, search_pattern, search_fold, search_fold_unicode; \
         DELETE FROM __diesel_schema_migrations WHERE version > '20261101000003'; \
         INSERT INTO users (name, email, gender) SELECT 'Жуков ' || n, 'u' || n || '@example.org', 'other' FROM generate_series(1, 20000) AS n";
    postgres.psql(&database, as_before);
    let mut migrating =
        program(postgres.port, &database).arg("migrate").stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut written = 0;
    let mut slowest = Duration::ZERO;
    while migrating.try_wait().unwrap().is_none() {
        let insert =
            format!("INSERT INTO users (name, email, gender) VALUES ('Old', 'old{written}@example.org', 'male')");
        let started = std::time::Instant::now();
        postgres.psql(&database, &insert);
        slowest = slowest.max(started.elapsed());
        written += 1;
    }
    assert!(migrating.wait().unwrap().success());
    assert!(written > 2 && slowest < Duration::from_secs(2), "{written} writes, the slowest took {slowest:?}");
    let app = App::on(postgres.port, &database);
    assert_eq!(
        app.get("/api/v1/users?q=%D0%B6%D1%83%D0%BA%D0%BE%D0%B2%207777").json()["users"][0]["email"],
        "u7777@example.org"
    );
}

#[test]
fn an_index_whose_build_was_interrupted_is_built_again() {
    let postgres = Postgres::shared();
    let database = App::database();
    postgres.psql(
        &database,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'users_search_grams'::regclass; \
         DELETE FROM __diesel_schema_migrations WHERE version = '20261129000005'",
    );
    migrate(postgres.port, &database);
    let valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'users_search_grams'::regclass";
    assert_eq!(postgres.psql(&database, valid), "t");
}
