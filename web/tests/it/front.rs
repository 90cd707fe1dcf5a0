//! The app behind proxies: what is believed at the front, and not at the app's other address.

use std::net::SocketAddr;

use testbed::http::{Answer, Client, form};

use crate::support::app::App;
use crate::support::postgres::Postgres;

/// The program with a front of its own.
struct Behind {
    app: App,
    front: SocketAddr,
}

impl Behind {
    fn with(url: &str, settings: &[(&str, &str)]) -> Self {
        let front = SocketAddr::from(([127, 0, 0, 1], testbed::free_port()));
        let listen = front.to_string();
        let all = [&[("PROXY_LISTEN", listen.as_str()), ("PUBLIC_URL", url)], settings].concat();
        Self { app: App::with(Postgres::shared().port, &App::database(), &all), front }
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        Client::new(self.front).send(method, path, headers, body).unwrap()
    }
}

const BY_HTTPS: (&str, &str) = ("x-forwarded-proto", "https");
const BY_HTTP: (&str, &str) = ("x-forwarded-proto", "http");

#[test]
fn cookies_are_bound_to_the_host_at_the_front_alone() {
    let behind = Behind::with("https://app.example.com", &[]);
    let page = behind.send("GET", "/users/new", &[BY_HTTPS], "");
    let cookie = page.header("set-cookie").to_owned();
    assert!(
        cookie.starts_with("__Host-csrf=") && cookie.contains("; Secure") && cookie.contains("Path=/;"),
        "{cookie}"
    );
    let (csrf, key) = (page.hidden("csrf"), page.hidden("key"));
    let body = form(&[("csrf", &csrf), ("key", &key), ("name", "Ada"), ("email", "ada@example.org")]);
    let post = |cookie: &str| {
        let headers = [BY_HTTPS, ("content-type", "application/x-www-form-urlencoded"), ("cookie", cookie)];
        behind.send("POST", "/users", &headers, &body)
    };
    assert_eq!(post(&format!("csrf={csrf}")).status, 403, "a cookie that http could have set");
    assert_eq!(post(&format!("__Host-csrf={csrf}")).status, 303);
    let direct = behind.app.get("/users/new").header("set-cookie").to_owned();
    assert!(direct.starts_with("csrf=") && !direct.contains("Secure"), "{direct}");
    let plain = Behind::with("http://app.example.com", &[]);
    let cookie = plain.send("GET", "/users/new", &[BY_HTTP], "").header("set-cookie").to_owned();
    assert!(cookie.starts_with("csrf=") && !cookie.contains("Secure"), "{cookie}");
}

#[test]
fn http_is_led_to_https_where_there_is_a_certificate() {
    let behind = Behind::with("https://app.example.com", &[]);
    let led = behind.send("GET", "/users?q=a%20b", &[BY_HTTP], "");
    assert_eq!((led.status, led.header("location")), (308, "https://app.example.com/users?q=a%20b"));
    assert_eq!(led.header("cache-control"), "no-store");
    let body = r#"{"name":"A","email":"a@example.org"}"#;
    let json = ("content-type", "application/json");
    assert_eq!(behind.send("POST", "/api/v1/users", &[BY_HTTP, json], body).status, 308);
    assert_eq!(behind.send("POST", "/api/v1/users", &[BY_HTTPS, json], body).status, 201);
    assert_eq!(behind.send("GET", "/users", &[], "").status, 200, "a proxy that does not tell");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(behind.send("GET", path, &[BY_HTTP], "").status, 200, "{path}");
    }
    let direct = behind.app.send("GET", "/users", &[BY_HTTP], "");
    assert_eq!(direct.status, 200, "who comes from inside the cluster is led nowhere");
    let plain = Behind::with("http://app.example.com", &[]);
    assert_eq!(plain.send("GET", "/users", &[BY_HTTP], "").status, 200);
}

#[test]
fn the_real_client_is_limited_and_logged_and_none_can_forge_its_address() {
    let limits = [("RATE_LIMIT_WRITES", "0"), ("RATE_LIMIT_READS", "3")];
    let behind = Behind::with("http://app.example.com", &limits);
    let ask = |told: &str| behind.send("GET", "/users", &[("x-forwarded-for", told)], "").status;
    // A window of ten seconds may end meanwhile: six requests have three too many in one of two windows at least.
    let mut sent = (0..7).map(|n| ask(&format!("198.51.100.{n}, 192.0.2.1")));
    assert!(sent.any(|status| status == 429), "what the client wrote before makes it no other one");
    assert_eq!(ask("192.0.2.2"), 200, "another client");
    let direct = |n: u8| {
        let told = format!("203.0.113.{n}");
        behind.app.send("GET", "/users", &[("x-forwarded-for", told.as_str())], "").status
    };
    assert!((0..7).any(|n| direct(n) == 429), "nothing is believed at the other address");
    let log = behind.app.logged();
    let has = |address: &str| log.contains(&format!(r#""client":"{address}""#));
    assert!(has("192.0.2.1") && has("192.0.2.2") && has("127.0.0.1"), "{log}");
    assert!(!has("198.51.100.1") && !has("203.0.113.1"), "{log}");
}

#[test]
fn at_the_front_only_networks_that_are_named_are_believed() {
    let behind = Behind::with("http://app.example.com", &[("TRUSTED_PROXIES", "10.0.0.0/8")]);
    assert_eq!(behind.send("GET", "/users", &[("x-forwarded-for", "192.0.2.1")], "").status, 200);
    assert!(!behind.app.logged().contains("192.0.2.1"));
    let behind = Behind::with("http://app.example.com", &[("TRUSTED_PROXIES", "10.0.0.0/8,127.0.0.1")]);
    let told = [("x-forwarded-for", "198.51.100.1, 192.0.2.1, 10.1.2.3")];
    assert_eq!(behind.send("GET", "/users", &told, "").status, 200);
    assert!(behind.app.logged().contains(r#""client":"192.0.2.1""#), "{}", behind.app.logged());
}
