//! The limit on one client's requests.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::app::App;
use crate::support::eventually;
use crate::support::postgres::Postgres;

/// Which window of ten seconds it is, and the milliseconds since it began.
fn now() -> (u128, u128) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    (now / 10_000, now % 10_000)
}

fn window() -> u128 {
    now().0
}

/// Waits for a window that has just begun.
fn new_window() {
    let (_, into) = now();
    if into > 1_000 {
        std::thread::sleep(Duration::from_millis(10_050 - u64::try_from(into).unwrap()));
    }
}

/// Waits until the instances have told the database of this many requests in a window.
fn told_to_database(database: &str, window: u128, requests: u32) {
    let sum = format!(
        "SELECT coalesce(sum(requests), 0) >= {requests} FROM request_rates WHERE window_start = to_timestamp({})",
        window * 10
    );
    eventually("the sum in the database", Duration::from_secs(5), || {
        self::window() != window || Postgres::shared().psql(database, &sum) == "t"
    });
}

#[test]
fn the_limit_holds_over_two_instances_and_without_a_database() {
    let _alone = crate::support::alone();
    let database = App::database();
    let proxy = testbed::proxy::Proxy::to(Postgres::shared().port).unwrap();
    let settings = [("RATE_LIMIT_WRITES", "20"), ("RATE_LIMIT_READS", "0"), ("REQUEST_DEADLINE_MS", "1500")];
    let apps = [App::with(proxy.port, &database, &settings), App::with(proxy.port, &database, &settings)];
    let write = |app: &App, n: usize| {
        app.json("POST", "/api/v1/users", "", &format!(r#"{{"name":"A","email":"a{n}@example.org"}}"#))
    };
    // On a busy machine a window may end in the middle of it: then it tells nothing, and is done again.
    let told = (1..=5).any(|round| {
        new_window();
        let window = window();
        let first = round * 1_000;
        let sent: Vec<u16> = (first..first + 18).map(|n| write(&apps[0], n).status).collect();
        // The other instance learns of them when it tells of its own: so theirs have to be there before.
        told_to_database(&database, window, 18);
        let one = write(&apps[1], first + 100).status;
        told_to_database(&database, window, 19);
        std::thread::sleep(Duration::from_millis(300));
        let more: Vec<u16> = (first + 200..first + 210).map(|n| write(&apps[1], n).status).collect();
        let refused = write(&apps[1], first + 300);
        let page = apps[1].send("POST", "/users", &[], "");
        if self::window() != window {
            return false;
        }
        assert!(sent.iter().chain([&one]).all(|status| *status == 201), "{sent:?} {one}");
        let admitted = more.iter().filter(|status| **status == 201).count();
        assert!(admitted <= 2, "{admitted} of 10 more were admitted");
        assert_eq!((refused.status, refused.header("content-type")), (429, "application/problem+json"));
        assert!((1..=10).contains(&refused.header("retry-after").parse::<u64>().unwrap()));
        assert!(page.status == 429 && page.body.contains("Too many requests"));
        true
    });
    assert!(told, "no window was long enough");
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
