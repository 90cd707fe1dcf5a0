//! The idempotency keys over years of use: the tables that grow with requests stay within their bounds.

use std::time::{Duration, Instant};

use diesel_async::{AsyncConnection, AsyncPgConnection};
use user_app::db::Operation;
use user_app::store::{BATCH, Expire, ExpireRates, ExpireUnkeyed, TrimClients, TrimKeys};

use crate::support::app::App;
use crate::support::eventually;
use crate::support::postgres::Postgres;

/// Does a removal until there is nothing to remove, as the app does; the rows, and the time that they took.
fn remove_all(database: &str, removal: &impl Operation<Out = usize>) -> (usize, Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("postgres://app@127.0.0.1:{}/{database}", Postgres::shared().port);
        let mut conn = AsyncPgConnection::establish(&url).await.unwrap();
        let started = Instant::now();
        let mut all = 0;
        loop {
            let removed = removal.run(&mut conn).await.unwrap();
            all += removed;
            if removed < BATCH {
                return (all, started.elapsed());
            }
        }
    })
}

/// Fills in keys: `count` of each of these clients, from `oldest` ago until `newest` ago.
fn fill(database: &str, client: &str, count: u32, oldest: &str, newest: &str) {
    let sql = format!(
        "INSERT INTO idempotency_keys (key, fingerprint, status, response, client, created_at) \
         SELECT gen_random_uuid(), sha256(n::text::bytea), 201, repeat('x', 200), {client}, \
                now() - interval '{oldest}' + (interval '{oldest}' - interval '{newest}') * n / {count} \
         FROM generate_series(1, {count}) AS n"
    );
    Postgres::shared().psql(database, &sql);
}

#[test]
fn a_days_keys_are_removed_much_faster_than_they_can_be_made() {
    let database = App::database();
    let count = |what: &str| Postgres::shared().psql(&database, &format!("SELECT count(*) FROM {what}"));
    // A day of writes: of many clients, of one that never stops, without a key, and by the version before.
    fill(&database, "'client ' || n % 1000", 100_000, "30 hours", "1 second");
    fill(&database, "'busy'", 60_000, "23 hours", "1 second");
    fill(&database, "''", 40_000, "1 hour", "1 second");
    fill(&database, "NULL", 20_000, "30 hours", "1 second");

    let (unkeyed, _) = remove_all(&database, &ExpireUnkeyed);
    assert!((38_600..38_800).contains(&unkeyed), "those of the last two minutes stay: {unkeyed}");
    let (aged, took) = remove_all(&database, &Expire);
    assert!((23_900..24_100).contains(&aged), "a fifth of what is kept for a day: {aged}");
    let rate = aged as f64 / took.as_secs_f64();
    assert!(rate > 2_500.0, "{rate:.0} a second: five times the most that one client may make");
    eprintln!("{aged} keys removed in {took:?}: {rate:.0} a second");

    let (trimmed, _) = remove_all(&database, &TrimClients(10_000));
    assert_eq!(trimmed, 50_000, "the busy client's oldest");
    assert_eq!(count("idempotency_keys WHERE client = 'busy'"), "10000");
    let newest =
        "SELECT min(created_at) > now() - interval '4 hours 1 minute' FROM idempotency_keys WHERE client = 'busy'";
    assert_eq!(Postgres::shared().psql(&database, newest), "t");
    assert_eq!(remove_all(&database, &TrimClients(10_000)).0, 0, "nobody else has too many");

    let left: i64 = count("idempotency_keys").parse().unwrap();
    let (trimmed, _) = remove_all(&database, &TrimKeys(30_000));
    assert_eq!((trimmed as i64, count("idempotency_keys").as_str()), (left - 30_000, "30000"));

    Postgres::shared().psql(
        &database,
        "INSERT INTO request_rates SELECT 'w ' || n, now() - interval '1 second' * (n % 120), 1 FROM generate_series(1, 24000) AS n",
    );
    let (rates, _) = remove_all(&database, &ExpireRates);
    assert!((11_500..12_100).contains(&rates), "{rates}");
}

#[test]
fn the_app_keeps_to_the_bounds_by_itself_and_tells_how_many_there_are() {
    let database = App::database();
    let settings = [("SWEEP_SECONDS", "1"), ("IDEMPOTENCY_KEYS", "12000"), ("IDEMPOTENCY_KEYS_PER_CLIENT", "20")];
    fill(&database, "'one'", 30_000, "23 hours", "22 hours");
    fill(&database, "'client ' || n % 10000", 60_000, "23 hours", "1 second");
    let app = App::with(Postgres::shared().port, &database, &settings);
    for n in 0..30 {
        let body = format!(r#"{{"name":"A","email":"k{n}@example.org"}}"#);
        assert_eq!(app.json("POST", "/api/v1/users", &format!("key-{n}"), &body).status, 201);
        assert_eq!(app.json("POST", "/api/v1/users", "", &body).status, 409);
    }
    let rows =
        |what: &str| Postgres::shared().psql(&database, &format!("SELECT count(*) FROM idempotency_keys {what}"));
    eventually("the bounds", Duration::from_secs(30), || rows("") == "12000" && rows("WHERE key LIKE 'key-%'") == "20");
    assert_eq!(rows("WHERE client = 'one'"), "0", "the oldest went first");
    let told = |name: &str| app.metric(&format!("user_app_table_{name}{{table=\"idempotency_keys\"}}"));
    eventually("the metrics", Duration::from_secs(5), || told("rows") == 12_000.0);
    assert_eq!(told("rows_limit"), 12_000.0);
    // The newest are still what they were.
    let body = r#"{"name":"A","email":"k29@example.org"}"#;
    let again = app.json("POST", "/api/v1/users", "key-29", body);
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, "true"));
}
