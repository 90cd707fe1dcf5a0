//! What is asked of the stores that no test has for real.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use async_trait::async_trait;
use http::Uri;
use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpError, HttpRequest, HttpResponse, HttpService};

use super::*;

const NAME: &str = "000000010000000000000001";
const KEY: &str = "team/db/wals/0000000100000000/000000010000000000000001.zst";

/// Leads every request to one server, whichever host it is for.
#[derive(Debug, Clone)]
struct Rerouted {
    http: Http,
    to: SocketAddr,
}

impl HttpConnector for Rerouted {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Rerouted {
    async fn call(&self, mut request: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
        let (host, path) = (request.uri().host().unwrap().to_owned(), request.uri().path_and_query().unwrap().clone());
        request.headers_mut().insert("x-meant-for", host.parse().unwrap());
        *request.uri_mut() =
            Uri::builder().scheme("http").authority(self.to.to_string()).path_and_query(path).build().unwrap();
        self.http.call(request).await
    }
}

type Asked = Arc<Mutex<Vec<String>>>;

/// Answers by the first of the entries whose words are all in the request; the request's head is noted.
fn server(answers: Vec<(&'static [&'static str], u16, &'static str, &'static str)>) -> (SocketAddr, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Asked::default());
    let noted = asked.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            while answer(&stream, &answers, &noted).is_some() {}
        }
    });
    (address, asked)
}

fn answer(mut stream: &TcpStream, answers: &[(&[&str], u16, &str, &str)], noted: &Mutex<Vec<String>>) -> Option<()> {
    let (mut reader, mut head) = (BufReader::new(stream), String::new());
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).ok().filter(|read| *read > 0)?;
    }
    let head = head.to_lowercase();
    let length = head.split_once("content-length: ").and_then(|(_, rest)| rest.split("\r\n").next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let found = answers.iter().find(|(words, ..)| words.iter().all(|word| head.contains(word)));
    let (_, status, headers, body) = found.unwrap_or_else(|| panic!("{head}"));
    let sent = if head.starts_with("head ") { "" } else { body };
    noted.lock().unwrap().push(head);
    let text = format!("HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n\r\n{sent}", body.len());
    stream.write_all(text.as_bytes()).ok()
}

/// Lists, makes an object, meets one that is there, fetches.
fn all_of_it(remote: &Remote) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let name = WalName::of_path(NAME).unwrap();
        let found = remote.variants(&name).await.unwrap();
        let expected = Variant { key: KEY.into(), name: NAME.into(), compression: Some(Compression::Zstd), size: 5 };
        assert_eq!(found, [expected]);
        assert_eq!(remote.fetch(KEY).await.unwrap(), b"12345");
        assert_eq!(remote.make("team/db/wals/new", b"12345".to_vec(), &[]).await, Ok(Made::New));
        assert_eq!(remote.make("team/db/wals/old", b"12345".to_vec(), &[]).await, Ok(Made::Exists));
        let cut = remote.make("team/db/wals/cut", b"12345".to_vec(), &[]).await;
        assert!(matches!(&cut, Err(Stop::Failed { message, .. }) if message.contains("it has 3 bytes")), "{cut:?}");
    });
}

fn open(provider: Provider, url: &str, env: &[(&str, &str)], to: SocketAddr) -> Remote {
    let command = Command { url: url.into(), server: "db".into(), provider, ..Command::default() };
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let http = Http::new(Duration::from_secs(5), None);
    match Remote::with(&command, &env, http.clone(), Rerouted { http, to }) {
        Ok(remote) => remote,
        Err(stop) => panic!("{stop:?}"),
    }
}

const FOUND: &str = "etag: \"e\"\r\nlast-modified: Sun, 29 Nov 2026 20:00:00 GMT\r\nx-goog-generation: 1\r\n";

#[test]
fn google_is_asked_for_what_there_is() {
    const LIST: &str = "<ListBucketResult><Name>b</Name><Contents><Key>team/db/wals/0000000100000000/\
        000000010000000000000001.zst</Key><LastModified>2026-11-29T20:00:00.000Z</LastModified><ETag>\"e\"</ETag>\
        <Size>5</Size></Contents></ListBucketResult>";
    let (address, asked) = server(vec![
        (&["post /o/oauth2/token"], 200, "", r#"{"access_token": "token", "expires_in": 3600}"#),
        (
            &["get /b?list-type=2", "prefix=team%2fdb%2fwals%2f0000000100000000%2f000000010000000000000001"],
            200,
            "",
            LIST,
        ),
        (&["get /b/team%2fdb%2fwals%2f0000000100000000%2f000000010000000000000001%2ezst"], 200, FOUND, "12345"),
        (&["put /b/team%2fdb%2fwals%2fold"], 412, "", "<Error><Code>PreconditionFailed</Code></Error>"),
        (&["put ", "x-goog-if-generation-match: 0"], 200, FOUND, ""),
        (
            &["head /b/team%2fdb%2fwals%2fcut"],
            200,
            "etag: \"e\"\r\nlast-modified: Sun, 29 Nov 2026 20:00:00 GMT\r\n",
            "123",
        ),
        (&["head /b/team%2fdb%2fwals%2fnew"], 200, FOUND, "12345"),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials.json");
    let user = r#"{"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}"#;
    std::fs::write(&file, user).unwrap();
    let env = [("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().unwrap())];
    all_of_it(&open(Provider::Google, "gs://b/team/", &env, address));
    let asked = asked.lock().unwrap();
    assert!(asked[1..].iter().all(|head| head.contains("authorization: bearer token")), "{asked:?}");
    assert!(asked[1..].iter().all(|head| head.contains("x-meant-for: storage.googleapis.com")), "{asked:?}");
}

#[test]
fn azure_is_asked_for_what_there_is() {
    const LIST: &str = "<EnumerationResults><Blobs><Blob><Name>team/db/wals/0000000100000000/\
        000000010000000000000001.zst</Name><Properties><Last-Modified>Sun, 29 Nov 2026 20:00:00 GMT</Last-Modified>\
        <Etag>e</Etag><Content-Length>5</Content-Length><Content-Type>x</Content-Type></Properties></Blob></Blobs>\
        <NextMarker/></EnumerationResults>";
    let answers = || {
        server(vec![
            (&["get /c?restype=container&comp=list&prefix=team%2fdb%2fwals%2f0000000100000000%2f00"], 200, "", LIST),
            (&["get /c/team/db/wals/0000000100000000/000000010000000000000001.zst"], 200, FOUND, "12345"),
            (&["put /c/team/db/wals/old"], 409, "", "<Error><Code>BlobAlreadyExists</Code></Error>"),
            (&["put ", "if-none-match: *", "x-ms-blob-type: blockblob"], 201, FOUND, ""),
            (
                &["head /c/team/db/wals/cut"],
                200,
                "etag: \"e\"\r\nlast-modified: Sun, 29 Nov 2026 20:00:00 GMT\r\n",
                "123",
            ),
            (&["head /c/team/db/wals/new"], 200, FOUND, "12345"),
        ])
    };
    let url = "https://acc.blob.core.windows.net/c/team";
    let (address, asked) = answers();
    all_of_it(&open(Provider::Azure, url, &[("AZURE_STORAGE_KEY", "c2VjcmV0Cg==")], address));
    let heads = asked.lock().unwrap().clone();
    assert!(heads.iter().all(|head| head.contains("authorization: sharedkey acc:")), "{heads:?}");
    assert!(heads.iter().all(|head| head.contains("x-meant-for: acc.blob.core.windows.net")), "{heads:?}");
    let (address, asked) = answers();
    all_of_it(&open(Provider::Azure, url, &[("AZURE_STORAGE_SAS_TOKEN", "?sv=1&sig=abc")], address));
    assert!(asked.lock().unwrap().iter().all(|head| head.contains("sig=abc")));
}
