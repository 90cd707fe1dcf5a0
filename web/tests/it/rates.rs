//! The limit on one client's requests.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::app::App;
use crate::support::eventually;
use crate::support::postgres::Postgres;

/// Windows are ten seconds long: waits for one that has just begun.
fn new_window() {
    let into = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() % 10_000;
    if into > 3_000 {
        std::thread::sleep(Duration::from_millis(10_050 - u64::try_from(into).unwrap()));
    }
}

#[test]
fn the_limit_holds_over_two_instances_and_without_a_database() {
    let _alone = crate::support::alone();
    let database = App::database();
    let proxy = testbed::proxy::Proxy::to(Postgres::shared().port).unwrap();
    let settings = [("RATE_LIMIT_WRITES", "20"), ("RATE_LIMIT_READS", "0"), ("REQUEST_DEADLINE_MS", "1500")];
    let apps = [App::with(proxy.port, &database, &settings), App::with(proxy.port, &database, &settings)];
    new_window();
    let write = |app: &App, n: usize| {
        app.json("POST", "/api/v1/users", "", &format!(r#"{{"name":"A","email":"a{n}@example.org"}}"#))
    };
    for n in 0..18 {
        assert_eq!(write(&apps[0], n).status, 201);
    }
    // The other instance hears of them within a second, once it has something to tell itself.
    assert_eq!(write(&apps[1], 100).status, 201);
    std::thread::sleep(Duration::from_millis(1200));
    let admitted = (200..210).filter(|n| write(&apps[1], *n).status == 201).count();
    assert!(admitted <= 2, "{admitted} of 10 more were admitted");
    let refused = write(&apps[1], 300);
    assert_eq!((refused.status, refused.header("content-type")), (429, "application/problem+json"));
    assert!((1..=10).contains(&refused.header("retry-after").parse::<u64>().unwrap()));
    let page = apps[1].send("POST", "/users", &[], "");
    assert!(page.status == 429 && page.body.contains("Too many requests"));
    assert_eq!(apps[1].get("/users").status, 200, "reads have no limit here");
    assert!(apps[1].metric("user_app_rate_limited_total") >= 9.0);

    proxy.cut(true);
    new_window();
    eventually("a new window", Duration::from_secs(11), || write(&apps[0], 400).status == 503);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let app = &apps[0];
        let senders: Vec<_> = (401..421).map(|n| scope.spawn(move || write(app, n).status)).collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    assert!(statuses.contains(&429), "the limit holds without the database: {statuses:?}");
}
