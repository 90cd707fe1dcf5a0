//! What users see while the database is away, slow, or another server.

use std::time::{Duration, Instant};

use testbed::ledger::Registrations;
use testbed::proxy::Proxy;
use user_app::config::{Credentials, Database};
use user_app::db::watch::Watch;

use crate::support::app::{App, migrate};
use crate::support::postgres::Postgres;
use crate::support::{alone, assert_holds, eventually};

const USER: &str = r#"{"name":"Ada","email":"ada@example.org"}"#;

fn seconds(n: f64) {
    std::thread::sleep(Duration::from_secs_f64(n));
}

#[test]
fn cuts_delays_and_silence_of_the_network_are_ridden_through() {
    let _alone = alone();
    let database = App::database();
    let proxy = Proxy::to(Postgres::shared().port).unwrap();
    let apps = [App::on(proxy.port, &database), App::on(proxy.port, &database)];
    let load = Registrations::start(&[apps[0].address, apps[1].address], 10, 200);
    for _ in 0..3 {
        seconds(0.4);
        proxy.cut(true);
        seconds(0.5);
        proxy.cut(false);
    }
    seconds(0.5);
    proxy.delay(Duration::from_millis(150));
    seconds(1.0);
    proxy.delay(Duration::ZERO);
    seconds(0.3);
    proxy.swallow(true);
    seconds(3.0);
    proxy.swallow(false);
    seconds(0.5);
    // Connections that have died without anybody noticing, while new ones work.
    proxy.freeze_open();
    seconds(7.0);
    let ledger = load.stop();
    assert_holds(&ledger, Postgres::shared(), &database);
    assert!(ledger.longest < Duration::from_secs(15), "the longest took {:?}", ledger.longest);
    assert!(ledger.acknowledged.len() > 300, "only {} registrations", ledger.acknowledged.len());
    assert!(apps[0].metric(r#"user_app_db_retries_total{kind="write"}"#) > 0.0);
}

/// A primary that waits for its standby with every commit, and the standby.
fn pair() -> (Postgres, Postgres, String) {
    let primary = Postgres::start(&["wal_keep_size=64MB"]);
    let standby = primary.standby("standby");
    primary.wait_for_standby("standby").unwrap();
    let database = primary.database();
    migrate(primary.port, &database);
    (primary, standby, database)
}

#[test]
fn a_promoted_standby_takes_over_and_nothing_acknowledged_is_lost() {
    let _alone = alone();
    let (primary, standby, database) = pair();
    let proxy = Proxy::to(primary.port).unwrap();
    let apps = [App::on(proxy.port, &database), App::on(proxy.port, &database)];
    let load = Registrations::start(&[apps[0].address, apps[1].address], 20, 200);
    seconds(2.0);
    primary.kill().unwrap();
    seconds(2.0);
    standby.promote().unwrap();
    proxy.switch(standby.port);
    let switched = Instant::now();
    let mut client = apps[0].client();
    let first = client.send("POST", "/api/v1/users", &[("content-type", "application/json")], USER).unwrap();
    let back = switched.elapsed();
    assert_eq!(first.status, 201);
    assert_eq!(apps[0].json("DELETE", first.header("location"), "", "").status, 204);
    // On a machine at rest it is a few milliseconds.
    assert!(back < Duration::from_secs(3), "the first write after the switch took {back:?}");
    seconds(1.5);
    let ledger = load.stop();
    assert_holds(&ledger, &standby, &database);
    assert!(ledger.longest < Duration::from_secs(8), "the longest took {:?}", ledger.longest);
    for app in &apps {
        assert_eq!(app.metric("user_app_db_failovers_total"), 1.0);
    }
}

#[test]
fn connections_that_lead_to_the_new_primary_already_are_kept() {
    let _alone = alone();
    let (primary, standby, database) = pair();
    let proxy = Proxy::to(primary.port).unwrap();
    let app = App::on(proxy.port, &database);
    let load = Registrations::start(&[app.address], 20, 200);
    seconds(1.0);
    primary.kill().unwrap();
    // A Service without endpoints, and then a server that is slow for all the handshakes.
    proxy.refuse(true);
    standby.promote().unwrap();
    seconds(1.0);
    proxy.lead_new_to(standby.port);
    proxy.delay(Duration::from_millis(50));
    proxy.refuse(false);
    seconds(3.0);
    proxy.delay(Duration::ZERO);
    seconds(0.5);
    let ledger = load.stop();
    assert_holds(&ledger, &standby, &database);
    let abandoned = "SELECT sessions_abandoned FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(standby.psql(&database, abandoned), "0", "connections were closed in the middle");
}

#[test]
fn connections_to_a_superseded_primary_that_still_answers_are_given_up() {
    let (primary, standby, database) = pair();
    let proxy = Proxy::to(primary.port).unwrap();
    let app = App::on(proxy.port, &database);
    assert_eq!(app.json("POST", "/api/v1/users", "", r#"{"name":"A","email":"a@example.org"}"#).status, 201);
    // The old primary lives on, cut off from its standby: its commits wait for ever.
    standby.promote().unwrap();
    proxy.lead_new_to(standby.port);
    let started = Instant::now();
    let answer = app.json("POST", "/api/v1/users", "k", USER);
    assert_eq!(answer.status, 201, "{answer:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(standby.psql(&database, "SELECT count(*) FROM users"), "2", "it was written to the new primary");
    drop(primary);
}

#[test]
fn connections_to_a_superseded_primary_are_given_up_where_nobody_listened_in_between() {
    let _alone = alone();
    let (primary, standby, database) = pair();
    let proxy = Proxy::to(primary.port).unwrap();
    let app = App::on(proxy.port, &database);
    assert_eq!(app.json("POST", "/api/v1/users", "", r#"{"name":"A","email":"a@example.org"}"#).status, 201);
    // It has been well for some time. Then its Service leads nowhere, and what is open stays open.
    seconds(1.5);
    proxy.refuse(true);
    standby.promote().unwrap();
    let started = Instant::now();
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| app.json("POST", "/api/v1/users", "k", USER));
        seconds(2.5);
        proxy.lead_new_to(standby.port);
        proxy.refuse(false);
        assert_eq!(answer.join().unwrap().status, 201);
    });
    assert!(started.elapsed() < Duration::from_secs(7), "{:?}", started.elapsed());
    let open =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'user-app' AND wait_event = 'ClientRead'";
    eventually("the old connections are closed", Duration::from_secs(3), || primary.psql(&database, open) == "0");
}

#[test]
fn reads_are_answered_by_a_standby_and_say_so() {
    let (primary, standby, database) = pair();
    let read_port = standby.port.to_string();
    let proxy = Proxy::to(primary.port).unwrap();
    let app = App::with(proxy.port, &database, &[("DB_READ_HOST", "127.0.0.1"), ("DB_READ_PORT", &read_port)]);
    assert_eq!(app.json("POST", "/api/v1/users", "", USER).status, 201);
    let fresh = app.get("/api/v1/users/1");
    assert_eq!((fresh.status, fresh.header("x-data-stale")), (200, ""));
    // The app is ready with its primary; it meets the standby a moment later.
    eventually("the standby is met", Duration::from_secs(5), || app.get("/info").body.contains("follows the primary"));
    eventually("the standby has replayed", Duration::from_secs(5), || {
        standby.psql(&database, "SELECT count(*) FROM users") == "1"
    });
    proxy.cut(true);
    let started = Instant::now();
    let stale = app.get("/api/v1/users/1");
    assert_eq!((stale.status, stale.header("x-data-stale")), (200, "true"));
    let list = app.get("/api/v1/users").json();
    assert_eq!((&list["stale"], list["users"].as_array().unwrap().len()), (&true.into(), 1));
    assert!(
        app.get("/users").body.contains("Possibly out of date")
            && app.get("/users/1/edit").body.contains("Possibly out of date")
    );
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(app.get("/readyz").status, 200, "no pod goes because the database does");
    assert!(app.get("/info").body.contains("does not answer"));
    assert_eq!(app.metric("user_app_db_primary_up"), 0.0);
    proxy.cut(false);
    eventually("fresh again", Duration::from_secs(3), || app.get("/api/v1/users/1").header("x-data-stale").is_empty());
}

#[test]
fn the_deadline_ends_in_a_page_that_keeps_the_input() {
    let database = App::database();
    let proxy = Proxy::to(Postgres::shared().port).unwrap();
    let app = App::with(proxy.port, &database, &[("REQUEST_DEADLINE_MS", "1500")]);
    let form = app.get("/users/new");
    proxy.cut(true);
    let started = Instant::now();
    let page = app.submit(&form, "/users", &[("name", "Ada"), ("email", "ada@example.org"), ("gender", "other")]);
    let took = started.elapsed();
    assert_eq!((page.status, page.header("retry-after")), (503, "5"));
    assert!((1.4..2.5).contains(&took.as_secs_f64()), "{took:?}");
    for part in ["Your input is kept", r#"value="Ada""#, r#"value="other" checked"#, r#"role="alert""#] {
        assert!(page.body.contains(part), "{part} is not in {}", page.body);
    }
    assert_eq!(page.hidden("key"), form.hidden("key"), "sent again it takes effect once");
    let api = app.json("POST", "/api/v1/users", "k", USER);
    assert_eq!(
        (api.status, api.header("retry-after"), api.header("content-type")),
        (503, "5", "application/problem+json")
    );
    let list = app.get("/users");
    assert!(list.status == 503 && list.body.contains("The database does not answer"));
    assert_eq!(app.get("/healthz").status, 200);
    proxy.cut(false);
    assert_eq!(
        app.submit(&page, "/users", &[("name", "Ada"), ("email", "ada@example.org"), ("gender", "other")]).status,
        303
    );
    assert!(app.metric(r#"user_app_unavailable_total{kind="write"}"#) >= 2.0);
}

#[test]
fn a_query_that_the_database_refuses_is_a_fault_with_a_number_in_the_log_and_no_pause() {
    let database = App::database();
    let app = App::on(Postgres::shared().port, &database);
    Postgres::shared().psql(&database, "ALTER TABLE users RENAME TO moved");
    let form = app.get("/users/new");
    let answers = [
        app.get("/users"),
        app.get("/users/1"),
        app.get("/api/v1/users"),
        app.get("/api/v1/users/1"),
        app.json("POST", "/api/v1/users", "", USER),
        app.submit(&form, "/users", &[("name", "Ada"), ("email", "ada@example.org")]),
    ];
    let log = app.logged();
    for answer in answers {
        let id = answer.header("x-request-id");
        assert_eq!((answer.status, answer.header("retry-after"), id.len()), (500, "", 32), "{answer:?}");
        assert!(answer.body.contains(id) && !answer.body.contains("relation"), "{answer:?}");
        let told = log.lines().find(|line| line.contains(id) && line.contains("relation")).unwrap_or_default();
        assert!(told.contains(r#""level":"ERROR""#), "{id} is not in {log}");
    }
}

#[test]
fn a_standby_reached_by_mistake_gets_no_write() {
    let (primary, standby, database) = pair();
    let proxy = Proxy::to(primary.port).unwrap();
    let app = App::with(proxy.port, &database, &[("REQUEST_DEADLINE_MS", "2000")]);
    proxy.switch(standby.port);
    assert_eq!(app.json("POST", "/api/v1/users", "k", USER).status, 503);
    proxy.switch(primary.port);
    assert_eq!(app.json("POST", "/api/v1/users", "k", USER).status, 201);
    assert_eq!(primary.psql(&database, "SELECT count(*) FROM users"), "1");
}

#[test]
fn a_commit_that_waits_for_its_standby_is_never_cancelled() {
    let primary = Postgres::start(&[]);
    let database = primary.database();
    migrate(primary.port, &database);
    let app = App::with(primary.port, &database, &[("REQUEST_DEADLINE_MS", "1500")]);
    assert_eq!(app.json("POST", "/api/v1/users", "", r#"{"name":"A","email":"a@example.org"}"#).status, 201);
    let standbys = |name: &str| {
        primary.wait_for_standby(name).unwrap();
        seconds(0.3);
    };
    let waiting = || primary.psql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");

    standbys("nobody");
    let unknown = app.json("POST", "/api/v1/users", "k", USER);
    assert_eq!(unknown.status, 503, "what no standby has is not acknowledged");
    seconds(0.3);
    assert_eq!(waiting(), "1", "the deadline did not end the commit");
    // A client that goes away does not end it either.
    let mut client = app.client();
    let gone = std::thread::spawn(move || {
        client.send(
            "POST",
            "/api/v1/users",
            &[("content-type", "application/json")],
            r#"{"name":"B","email":"b@example.org"}"#,
        )
    });
    seconds(0.5);
    assert_eq!(waiting(), "2");

    // Somebody cancels it on the server: PostgreSQL reports it as done, with a warning.
    primary.psql("postgres", "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
    assert_eq!(gone.join().unwrap().unwrap().status, 503, "what was cancelled is not acknowledged");
    let again = app.json("POST", "/api/v1/users", "k", USER);
    assert_eq!(again.status, 503, "nor is it found and taken for safe");

    standbys("");
    let again = app.json("POST", "/api/v1/users", "k", USER);
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, "true"));
    assert_eq!(primary.psql(&database, "SELECT count(*) FROM users"), "3");
}

#[test]
fn starting_without_a_database_waits_for_it() {
    let database = App::database();
    let proxy = Proxy::to(Postgres::shared().port).unwrap();
    proxy.cut(true);
    let app = App::unready(proxy.port, &database, &[]);
    seconds(0.5);
    assert_eq!((app.get("/healthz").status, app.get("/readyz").status), (200, 503));
    proxy.cut(false);
    eventually("ready", Duration::from_secs(3), || app.get("/readyz").status == 200);
}

#[test]
fn the_watcher_connects_once_a_second_for_doubts_and_for_none_that_it_has_answered() {
    let name = App::database();
    let proxy = Proxy::to(Postgres::shared().port).unwrap();
    let credentials = Credentials::Values { user: "app".into(), password: None, dbname: name };
    let database = Database {
        host: "127.0.0.1".into(),
        port: proxy.port,
        read_host: None,
        read_port: 0,
        credentials,
        tls: false,
        pool: 1,
        read_pool: 1,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let watch = Watch::new(std::sync::Arc::default());
    runtime.spawn(std::sync::Arc::clone(&watch).run(database, "0".into()));
    let is_up = || watch.is_up();
    eventually("the primary is up", Duration::from_secs(3), is_up);
    let before = proxy.made();
    // As writes do that wait for a standby, each of them.
    for _ in 0..250 {
        watch.doubt();
        seconds(0.01);
    }
    let made = proxy.made() - before;
    assert!((1..=4).contains(&made), "it connected {made} times for the doubts of 2.5 s");

    proxy.cut(true);
    eventually("the primary is down", Duration::from_secs(3), || !watch.is_up());
    watch.doubt();
    // An attempt that was begun before has failed by then.
    seconds(0.2);
    proxy.cut(false);
    eventually("the primary is up again", Duration::from_secs(3), is_up);
    let before = proxy.made();
    seconds(2.5);
    assert_eq!(proxy.made(), before, "it connected again for what was doubted before");
    runtime.shutdown_background();
}
