//! A small HTTP client that hides nothing: no redirect is followed, no request repeated.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// A header's value, empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none: a test's expectation.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The value of a form's hidden field.
    ///
    /// # Panics
    /// When there is none of that name: a test's expectation.
    pub fn hidden(&self, name: &str) -> String {
        let start = format!("name=\"{name}\" value=\"");
        let from = self.body.find(&start).unwrap_or_else(|| panic!("no field {name} in {}", self.body)) + start.len();
        self.body[from..].split('"').next().unwrap_or_default().to_owned()
    }
}

/// One kept-alive connection.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    /// Connects with the first request.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    /// Sends and waits for the answer, 30 seconds at most.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> std::io::Result<Answer> {
        let sent = self.exchange(method, path, headers, body);
        if !sent.as_ref().is_ok_and(|a| a.header("connection") != "close") {
            self.stream = None;
        }
        sent
    }

    fn exchange(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> std::io::Result<Answer> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(5))?;
                stream.set_read_timeout(Some(Duration::from_secs(30)))?;
                stream.set_nodelay(true)?;
                none.insert(BufReader::new(stream))
            }
        };
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.address);
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method == "POST" || method == "PUT" {
            text.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        text.push_str(body);
        stream.get_mut().write_all(text.as_bytes())?;
        read_answer(stream, method == "HEAD")
    }
}

fn read_answer(stream: &mut BufReader<TcpStream>, head: bool) -> std::io::Result<Answer> {
    let closed = || std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "closed before the answer");
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(closed());
    }
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(closed)?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(closed());
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let mut answer = Answer { status, headers, body: String::new() };
    let length = answer.header("content-length").parse().unwrap_or(0);
    if length > 0 && !head {
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        answer.body = String::from_utf8_lossy(&body).into_owned();
    }
    Ok(answer)
}

/// Percent-encodes a form or query value.
pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// A form's body.
pub fn form(fields: &[(&str, &str)]) -> String {
    fields.iter().map(|(n, v)| format!("{}={}", encode(n), encode(v))).collect::<Vec<_>>().join("&")
}
