//! Requests for measuring: as many as are answered, or so many a second.
//!
//! One thread and one connection a client, which sends its next request when it has its answer. At a fixed
//! rate a request's time counts from when it was due and not from when it was sent, so that an answer that
//! comes late counts for all the requests that it held up.

use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// For one answer.
const ANSWER: Duration = Duration::from_secs(30);

/// What to send, for how long.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Where to.
    pub address: SocketAddr,
    /// Clients at once.
    pub clients: u32,
    /// How long to send.
    pub time: Duration,
    /// Requests a second, all clients together; `None`: as many as are answered.
    pub rate: Option<f64>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How long each answer of the status that was expected took, shortest first.
    pub times: Vec<Duration>,
    /// Requests that had no answer or another one.
    pub failed: usize,
    /// Why the first of them failed.
    pub failure: Option<String>,
    /// From the first request to the last answer.
    pub took: Duration,
}

impl Outcome {
    /// Answers a second.
    pub fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The time within which this share of the answers came; nothing where there were none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let last = self.times.len().checked_sub(1)?;
        self.times.get((last as f64 * share).round() as usize).copied()
    }
}

/// Runs a plan. `request` makes the text of a client's next request, from the client's number and the request's;
/// answers must have the given status.
pub fn run(plan: Plan, status: u16, request: impl Fn(u32, u64) -> String + Sync) -> Outcome {
    let start = Instant::now();
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let request = &request;
        let clients: Vec<_> =
            (0..plan.clients).map(|client| scope.spawn(move || one(plan, start, client, status, request))).collect();
        clients.into_iter().filter_map(|client| client.join().ok()).collect()
    });
    let mut sum = Outcome { took: start.elapsed(), ..Outcome::default() };
    for outcome in outcomes {
        sum.times.extend(outcome.times);
        sum.failed += outcome.failed;
        sum.failure = sum.failure.or(outcome.failure);
    }
    sum.times.sort_unstable();
    sum
}

fn one(plan: Plan, start: Instant, client: u32, status: u16, request: &impl Fn(u32, u64) -> String) -> Outcome {
    let mut outcome = Outcome::default();
    let mut connection = Connection { address: plan.address, stream: None, buffer: Vec::new() };
    let pause = plan.rate.map(|rate| Duration::from_secs_f64(f64::from(plan.clients) / rate));
    // The clients' turns are spread over the pause.
    let mut due = start + pause.map_or(Duration::ZERO, |pause| pause * client / plan.clients);
    for n in 0.. {
        let now = Instant::now();
        if now >= start + plan.time {
            break;
        }
        let since = match pause {
            None => now,
            Some(pause) => {
                std::thread::sleep(due.saturating_duration_since(now));
                let since = due;
                due += pause;
                since
            }
        };
        match connection.exchange(&request(client, n)) {
            Ok(got) if got == status => outcome.times.push(since.elapsed()),
            other => {
                outcome.failed += 1;
                outcome.failure.get_or_insert(match other {
                    Ok(status) => format!("status {status}"),
                    Err(error) => error.to_string(),
                });
            }
        }
    }
    outcome
}

struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    /// Sends the request and reads the whole answer; returns its status.
    fn exchange(&mut self, request: &str) -> Result<u16> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(self.address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(ANSWER))?;
                none.insert(stream)
            }
        };
        let answer = stream.write_all(request.as_bytes()).and_then(|()| read(stream, &mut self.buffer));
        if !matches!(answer, Ok((_, true))) {
            self.stream = None;
        }
        answer.map(|(status, _)| status)
    }
}

/// Reads an answer whose length its head tells; returns its status, and whether the connection stays open.
fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<(u16, bool)> {
    buffer.clear();
    let mut chunk = [0; 64 * 1024];
    let mut whole = None;
    let mut told = (0, true);
    while whole.is_none_or(|length| buffer.len() < length) {
        let n = stream.read(&mut chunk)?;
        if n == 0 {
            return Err(Error::new(ErrorKind::UnexpectedEof, "closed before the answer"));
        }
        buffer.extend_from_slice(&chunk[..n]);
        if whole.is_none()
            && let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n")
        {
            let (status, length, open) = head(&buffer[..end])
                .ok_or_else(|| Error::new(ErrorKind::InvalidData, "an answer without status or length"))?;
            told = (status, open);
            whole = Some(end + 4 + length);
        }
    }
    Ok(told)
}

/// Status, length of the body, and whether the connection stays open.
fn head(bytes: &[u8]) -> Option<(u16, usize, bool)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let header =
        |name: &str| text.lines().filter_map(|line| line.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case(name));
    let length = header("content-length")?.1.trim().parse().ok()?;
    let closes = header("connection").is_some_and(|(_, value)| value.trim().eq_ignore_ascii_case("close"));
    Some((status, length, !closes))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;

    use super::*;

    /// Answers each request on each connection after a while.
    fn server(after: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    let (mut line, mut writer) = (String::new(), stream);
                    while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
                        if line == "\r\n" {
                            std::thread::sleep(after);
                            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                            if writer.write_all(answer).is_err() {
                                return;
                            }
                        }
                        line.clear();
                    }
                });
            }
        });
        address
    }

    fn get(_: u32, _: u64) -> String {
        "GET / HTTP/1.1\r\nhost: x\r\n\r\n".into()
    }

    #[test]
    fn without_a_rate_each_client_sends_when_it_is_answered() {
        let address = server(Duration::from_millis(20));
        let plan = Plan { address, clients: 4, time: Duration::from_millis(400), rate: None };
        let outcome = run(plan, 200, get);
        assert_eq!((outcome.failed, outcome.failure), (0, None));
        assert!((40..=84).contains(&outcome.times.len()), "{}", outcome.times.len());
        assert_eq!(run(plan, 201, get).failure.as_deref(), Some("status 200"));
    }

    #[test]
    fn at_a_rate_that_is_not_held_waiting_counts() {
        let address = server(Duration::from_millis(50));
        let plan = Plan { address, clients: 1, time: Duration::from_millis(500), rate: Some(10.0) };
        let held = run(plan, 200, get);
        assert!((4..=6).contains(&held.times.len()) && held.quantile(1.0) < Some(Duration::from_millis(100)));
        let late = run(Plan { rate: Some(100.0), ..plan }, 200, get);
        assert!(late.quantile(1.0) > Some(Duration::from_millis(300)), "{late:?}");
    }

    #[test]
    fn heads_are_read_whatever_their_case() {
        let told = |text: &str| head(text.as_bytes());
        assert_eq!(told("HTTP/1.1 201 Created\r\ncontent-LENGTH: 7\r\nConnection: close"), Some((201, 7, false)));
        assert_eq!(told("HTTP/1.1 200 OK\r\nServer: x"), None);
    }
}
