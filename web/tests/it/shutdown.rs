//! The end of a pod, and a rolling update.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use testbed::http::Client;

use crate::support::app::App;
use crate::support::postgres::Postgres;

/// Requests to whichever instances are in the list, as through a Service; kept-alive
/// connections stay with the instance they were opened to. Returns what failed.
fn requests(service: &RwLock<Vec<SocketAddr>>, stop: &AtomicBool, name: usize) -> (u32, Vec<String>) {
    let mut failed = Vec::new();
    let mut answered = 0;
    let mut open: Option<(SocketAddr, Client)> = None;
    while !stop.load(Ordering::Relaxed) {
        let n = answered as usize + name;
        let (address, client) = open.get_or_insert_with(|| {
            let ready = service.read().unwrap();
            let address = ready[n % ready.len()];
            (address, Client::new(address))
        });
        let (key, body) = (format!("s{name}-{n}"), format!(r#"{{"name":"S","email":"s{name}n{n}@example.org"}}"#));
        let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
        let sent = if n.is_multiple_of(3) {
            client.send("POST", "/api/v1/users", &headers, &body)
        } else {
            client.send("GET", "/users", &[], "")
        };
        match sent {
            Ok(answer) if answer.status < 300 => {
                answered += 1;
                if answer.header("connection") == "close" {
                    open = None;
                }
            }
            other => {
                failed.push(format!("{address}: {other:?}"));
                open = None;
            }
        }
    }
    (answered, failed)
}

#[test]
fn a_rolling_update_drops_no_request() {
    let _alone = crate::support::alone();
    let database = App::database();
    let port = Postgres::shared().port;
    let start = || App::with(port, &database, &[("DRAIN_SECONDS", "1")]);
    let mut old = vec![start(), start()];
    let service = Arc::new(RwLock::new(old.iter().map(|a| a.address).collect::<Vec<_>>()));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..6)
        .map(|n| {
            let (service, stop) = (Arc::clone(&service), Arc::clone(&stop));
            std::thread::spawn(move || requests(&service, &stop, n))
        })
        .collect();
    let mut new = Vec::new();
    while let Some(mut leaving) = old.pop() {
        std::thread::sleep(Duration::from_millis(300));
        new.push(start());
        service.write().unwrap().push(new.last().unwrap().address);
        leaving.terminate();
        // The cluster takes it from the Service a moment after it was told to end.
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(leaving.get("/readyz").status, 503, "it still answers, and says that it is leaving");
        service.write().unwrap().retain(|a| *a != leaving.address);
        assert!(leaving.ended(Duration::from_secs(15)), "it ends in order");
        assert!(leaving.logged().contains("ended in order"));
    }
    std::thread::sleep(Duration::from_millis(300));
    stop.store(true, Ordering::Relaxed);
    let (mut answered, mut failed) = (0, Vec::new());
    for client in clients {
        let (a, f) = client.join().unwrap();
        answered += a;
        failed.extend(f);
    }
    assert!(failed.is_empty(), "{} of {} failed, such as {}", failed.len(), answered, failed[0]);
    assert!(answered > 500, "only {answered} requests: too little load to tell");
}

#[test]
fn a_request_under_way_is_answered_before_the_end() {
    let database = App::database();
    let proxy = testbed::proxy::Proxy::to(Postgres::shared().port).unwrap();
    let mut app = App::with(proxy.port, &database, &[]);
    proxy.delay(Duration::from_millis(100));
    let mut client = app.client();
    let sender = std::thread::spawn(move || {
        client.send(
            "POST",
            "/api/v1/users",
            &[("content-type", "application/json")],
            r#"{"name":"A","email":"a@example.org"}"#,
        )
    });
    std::thread::sleep(Duration::from_millis(300));
    app.terminate();
    assert_eq!(sender.join().unwrap().unwrap().status, 201);
    assert!(app.ended(Duration::from_secs(10)));
}

#[test]
fn an_idle_connection_does_not_hold_up_the_end() {
    let mut app = App::start();
    let mut client = app.client();
    client.send("GET", "/users", &[], "").unwrap();
    let started = std::time::Instant::now();
    app.terminate();
    assert!(app.ended(Duration::from_secs(10)));
    assert!(started.elapsed() < Duration::from_secs(8), "it took {:?}", started.elapsed());
}
