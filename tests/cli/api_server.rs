//! A stand-in for an API server, and the kubeconfig that leads to it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
};

use crate::sandbox::Sandbox;

/// A kubeconfig with the contexts `prod` (at `server`) and `other`.
pub fn kubeconfig(sandbox: &Sandbox, server: &str) {
    sandbox.write(
        "home/.kube/config",
        &format!(
            r#"{{"apiVersion":"v1","kind":"Config","current-context":"other",
            "clusters":[{{"name":"c","cluster":{{"server":"{server}"}}}}],
            "users":[{{"name":"u","user":{{"token":"not-a-real-token"}}}}],
            "contexts":[{{"name":"prod","context":{{"cluster":"c","user":"u"}}}},
            {{"name":"other","context":{{"cluster":"c","user":"u"}}}}]}}"#
        ),
    );
}

pub type Requests = Arc<Mutex<Vec<String>>>;

/// An API server that answers by this function of the request line, and notes the request lines.
pub fn api_server(answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) -> (String, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let requests = Requests::default();
    let (noted, answer) = (requests.clone(), Arc::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (noted, answer) = (noted.clone(), answer.clone());
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut stream = stream;
                loop {
                    let mut first = String::new();
                    if reader.read_line(&mut first).unwrap_or(0) == 0 {
                        return;
                    }
                    let mut length = 0;
                    loop {
                        let mut header = String::new();
                        reader.read_line(&mut header).unwrap();
                        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap();
                        }
                        if header.trim().is_empty() {
                            break;
                        }
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).unwrap();
                    let line = first.trim().trim_end_matches(" HTTP/1.1").to_owned();
                    let (code, text) = answer(&format!("{line} {}", String::from_utf8_lossy(&body)));
                    noted.lock().unwrap().push(line);
                    let head = format!(
                        "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                        text.len()
                    );
                    stream.write_all(format!("{head}{text}").as_bytes()).unwrap();
                }
            });
        }
    });
    (address, requests)
}

/// The answer to questions for the kinds that there are: none but the server's own.
pub const NO_KINDS: &str =
    r#"{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","metadata":{},"items":[]}"#;

/// What an API server says of an object that is not there.
pub fn not_found(name: &str) -> (u16, String) {
    let status = format!(
        r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"{name} not found","reason":"NotFound","code":404}}"#
    );
    (404, status)
}
