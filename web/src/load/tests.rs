use std::sync::atomic::AtomicU32;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// A site that answers as the app does; `stall` holds every answer back, once, for so long.
async fn site(stall: Duration) -> (Site, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (connections, stall_ends) = (Arc::new(AtomicU32::new(0)), Instant::now() + stall);
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                while let Ok(read @ 1..) = socket.read(&mut request).await {
                    tokio::time::sleep_until(stall_ends).await;
                    let text = String::from_utf8_lossy(&request[..read]);
                    let answer = if text.starts_with("POST") {
                        "HTTP/1.1 201 Created\r\nContent-Length: 8\r\n\r\n{\"id\":7}"
                    } else if text.starts_with("GET /users ") || text.contains(" /api/v1/users/7 ") {
                        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
                    } else {
                        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
                    };
                    socket.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (Site { host: address.to_string(), address, run: "r".into() }, connections)
}

fn settings(rate: f64, seconds: f64) -> LoadSettings {
    LoadSettings {
        web: String::new(),
        run: "r".into(),
        rate,
        lasts: Duration::from_secs_f64(seconds),
        users: 4,
        tail_rate: 10.0,
        tail: Duration::from_millis(500),
    }
}

#[tokio::test]
async fn the_rate_is_kept_and_visits_end() {
    let (site, connections) = site(Duration::ZERO).await;
    let crowd = Arc::new(Crowd::new(site, settings(200.0, 1.0)));
    crowd.send().await;
    crowd.wait_for_last_answers().await;
    let (answered, failed, _, reasons) = crowd.tally.summary();
    assert_eq!((answered, failed), (205, 0), "{reasons:?}");
    let connections = connections.load(Ordering::Relaxed);
    assert!((21..80).contains(&connections), "{connections} connections for 205 requests, 10 each");
}

#[tokio::test]
async fn a_stall_counts_for_every_request_that_was_due_in_it() {
    let (site, _) = site(Duration::from_millis(800)).await;
    let crowd = Arc::new(Crowd::new(site, settings(100.0, 1.0)));
    crowd.send().await;
    crowd.wait_for_last_answers().await;
    let (answered, failed, median, reasons) = crowd.tally.summary();
    assert_eq!((answered, failed), (105, 0), "{reasons:?}");
    // A sender that waits for its four users would have seen four slow answers and a median of nothing.
    assert!((250_000..500_000).contains(&median), "median {median} µs");
}

#[tokio::test]
async fn what_fails_is_told_by_its_reason() {
    let (mut site, _) = site(Duration::ZERO).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    site.address = nobody.local_addr().unwrap();
    drop(nobody);
    let crowd = Arc::new(Crowd::new(site, settings(50.0, 0.2)));
    crowd.send().await;
    crowd.wait_for_last_answers().await;
    let (answered, failed, _, reasons) = crowd.tally.summary();
    assert_eq!((answered, failed), (0, 10));
    assert!(reasons.keys().all(|why| why.contains("refused")), "{reasons:?}");
}

#[tokio::test]
async fn half_are_pages_and_one_in_ten_writes() {
    let (site, _) = site(Duration::ZERO).await;
    let crowd = Crowd::new(site, settings(1.0, 1.0));
    assert_eq!(crowd.action(13), Action::Page, "nobody is known that could be changed");
    crowd.known.lock().unwrap().push(7);
    let actions: Vec<Action> = (0..20).map(|n| crowd.action(n)).collect();
    let count = |is: fn(&Action) -> bool| actions.iter().filter(|action| is(action)).count();
    assert_eq!(count(|a| matches!(a, Action::Page)), 10);
    assert_eq!(count(|a| matches!(a, Action::Read(7))), 8);
    assert_eq!(count(|a| matches!(a, Action::Register(_))), 1);
    assert_eq!(count(|a| matches!(a, Action::Change(7, _))), 1);
}
