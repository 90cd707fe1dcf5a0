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
