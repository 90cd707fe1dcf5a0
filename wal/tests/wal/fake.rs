//! A store that does what S3 does with the five requests that matter here, and fails on demand.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

pub const BUCKET: &str = "backups";
pub const BASE: &str = "team/a/db/wals";

/// How a request is answered instead.
#[derive(Debug, Clone)]
pub enum Fault {
    /// With this status, and this code in the body.
    Status(u16, &'static str),
    /// With this and no fault.
    Body(&'static str),
    /// The connection is closed without an answer, after this many bytes of the request's body.
    Closed(usize),
    /// Half of the answer comes.
    Cut,
    /// Late.
    Late(Duration),
    /// Not at all.
    Silent,
}

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

type Decide = dyn Fn(&Request, usize) -> Option<Fault> + Send + Sync;

pub struct Fake {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    requests: Mutex<Vec<Request>>,
    decide: Box<Decide>,
    tls: Option<Arc<rustls::ServerConfig>>,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Fake {
    /// One that works.
    pub fn new() -> Self {
        Self::failing(|_, _| None)
    }

    /// One whose faults are decided by the request and by how many came before it.
    pub fn failing(decide: impl Fn(&Request, usize) -> Option<Fault> + Send + Sync + 'static) -> Self {
        Self::serve(Box::new(decide), None)
    }

    pub fn secure(tls: rustls::ServerConfig) -> Self {
        Self::serve(Box::new(|_, _| None), Some(Arc::new(tls)))
    }

    fn serve(decide: Box<Decide>, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { objects: Mutex::default(), requests: Mutex::default(), decide, tls });
        let serving = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = serving.clone();
                thread::spawn(move || shared.connection(stream));
            }
        });
        Self { address, shared }
    }

    pub fn endpoint(&self) -> String {
        format!("http{}://{}", if self.shared.tls.is_some() { "s" } else { "" }, self.address)
    }

    pub fn put(&self, key: &str, content: &[u8]) {
        self.shared.objects.lock().unwrap().insert(key.into(), content.into());
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.shared.objects.lock().unwrap().get(key).cloned()
    }

    pub fn keys(&self) -> Vec<String> {
        self.shared.objects.lock().unwrap().keys().cloned().collect()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How many objects were sent here.
    pub fn uploads(&self) -> usize {
        self.requests().iter().filter(|request| request.method == "PUT").count()
    }
}

impl Shared {
    fn connection(&self, stream: TcpStream) {
        let closing = stream.try_clone().unwrap();
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some(tls) => {
                Box::new(rustls::StreamOwned::new(rustls::ServerConnection::new(tls.clone()).unwrap(), stream))
            }
        };
        let mut stream = BufReader::new(stream);
        while self.request(&mut stream).is_some() {}
        let _ = closing.shutdown(Shutdown::Both);
    }

    /// Answers one request; nothing is to follow if it returns nothing.
    fn request(&self, stream: &mut BufReader<Box<dyn Stream>>) -> Option<()> {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let mut words = line.split_whitespace();
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
        let path = path.strip_prefix(&format!("/{BUCKET}")).unwrap_or(path).trim_start_matches('/').to_owned();
        let mut request = Request { method, path, query: query.to_owned(), headers, body: Vec::new() };
        let before = self.requests.lock().unwrap().len();
        let fault = (self.decide)(&request, before);
        if let Some(Fault::Closed(after)) = fault {
            let mut part = vec![0; after.min(length)];
            let _ = stream.read_exact(&mut part);
            self.requests.lock().unwrap().push(request);
            return None;
        }
        request.body = vec![0; length];
        stream.read_exact(&mut request.body).ok()?;
        self.requests.lock().unwrap().push(request.clone());
        let mut cut = false;
        match fault {
            Some(Fault::Status(status, code)) => {
                return answer(stream, &request, status, error(code).as_bytes(), false);
            }
            Some(Fault::Body(body)) => return answer(stream, &request, 200, body.as_bytes(), false),
            Some(Fault::Late(by)) => thread::sleep(by),
            Some(Fault::Silent) => {
                thread::sleep(Duration::from_secs(30));
                return None;
            }
            Some(Fault::Cut) => cut = true,
            Some(Fault::Closed(_)) | None => {}
        }
        let (status, body) = self.act(&request);
        answer(stream, &request, status, &body, cut)
    }

    fn act(&self, request: &Request) -> (u16, Vec<u8>) {
        let mut objects = self.objects.lock().unwrap();
        match request.method.as_str() {
            "PUT" if request.headers.contains_key("if-none-match") && objects.contains_key(&request.path) => {
                (412, error("PreconditionFailed").into_bytes())
            }
            "PUT" => {
                objects.insert(request.path.clone(), request.body.clone());
                (200, Vec::new())
            }
            "GET" if request.path.is_empty() => (200, list(&objects, &request.query).into_bytes()),
            "GET" | "HEAD" => match objects.get(&request.path) {
                Some(content) => match request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")) {
                    Some(range) => (206, content[range.split('-').next().unwrap().parse().unwrap()..].to_vec()),
                    None => (200, content.clone()),
                },
                None => (404, error("NoSuchKey").into_bytes()),
            },
            _ => (405, Vec::new()),
        }
    }
}

fn answer(
    stream: &mut BufReader<Box<dyn Stream>>,
    request: &Request,
    status: u16,
    body: &[u8],
    cut: bool,
) -> Option<()> {
    let range = request.headers.get("range").filter(|_| status == 206);
    let range = range.map_or(String::new(), |range| {
        let from: usize = range.trim_start_matches("bytes=").split('-').next().unwrap().parse().unwrap();
        let end = from + body.len();
        format!("content-range: bytes {from}-{}/{end}\r\n", end - 1)
    });
    let head = format!(
        "HTTP/1.1 {status} x\r\n{range}content-length: {}\r\netag: \"e\"\r\nlast-modified: Sun, 29 Nov 2026 20:00:00 GMT\r\n\r\n",
        body.len()
    );
    let body = if request.method == "HEAD" { &[] } else { body };
    let to = stream.get_mut();
    to.write_all(head.as_bytes()).ok()?;
    to.write_all(if cut { &body[..body.len() / 2] } else { body }).ok()?;
    to.flush().ok()?;
    if cut { None } else { Some(()) }
}

fn error(code: &str) -> String {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>the fake says so</Message></Error>")
}

fn list(objects: &BTreeMap<String, Vec<u8>>, query: &str) -> String {
    let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix=")).unwrap_or_default().replace("%2F", "/");
    let mut found = String::new();
    for (key, content) in objects.iter().filter(|(key, _)| key.starts_with(&prefix)) {
        found += &format!(
            "<Contents><Key>{key}</Key><LastModified>2026-11-29T20:00:00.000Z</LastModified><ETag>\"e\"</ETag>\
             <Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
            content.len()
        );
    }
    format!(
        "<?xml version=\"1.0\"?><ListBucketResult><Name>{BUCKET}</Name><Prefix>{prefix}</Prefix><KeyCount>1</KeyCount>\
         <MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{found}</ListBucketResult>"
    )
}
