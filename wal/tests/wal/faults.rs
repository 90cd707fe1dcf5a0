//! Stores that fail, and how soon that is known.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};
use rustls::pki_types::PrivateKeyDer;

use crate::fake::{BASE, BUCKET, Fake, Fault};
use crate::programs::{Desk, Ended, SEGMENT, SEGMENT_SIZE, fails, segment, succeeds};

/// A promotion waits no longer for a store that died.
const SOON: Duration = Duration::from_millis(2500);

fn key(suffix: &str) -> String {
    format!("{BASE}/0000000100000000/{SEGMENT}{suffix}")
}

/// Both programs against a store; each must leave nothing behind.
fn both(endpoint: &str, options: &[&str]) -> [Ended; 2] {
    let desk = Desk::new(endpoint, BUCKET);
    desk.write(SEGMENT, &segment(1));
    let ended = [desk.archive(options, SEGMENT), desk.restore(options, SEGMENT)];
    assert_eq!(desk.files(), [SEGMENT, "ours"]);
    ended
}

#[test]
fn a_store_that_is_gone_is_given_up_at_once() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for ended in both(&format!("http://{address}"), &[]) {
        fails(&ended, 2, "Could not connect");
        assert!(ended.took < SOON, "{ended:?}");
    }
    for ended in both("http://no-such-host.invalid:7070", &[]) {
        fails(&ended, 2, "Could not connect");
        assert!(ended.took < SOON, "{ended:?}");
    }
}

/// An address whose packets nobody answers: a listener with all its places taken.
fn black_hole() -> (rustix::fd::OwnedFd, SocketAddr, Vec<TcpStream>) {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let address = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
    let mut taken = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        taken.push(stream);
    }
    (socket, address, taken)
}

#[test]
fn a_store_whose_node_is_gone_is_given_up_after_two_seconds() {
    let (_socket, address, _taken) = black_hole();
    for ended in both(&format!("http://{address}"), &[]) {
        fails(&ended, 2, "Could not connect");
        assert!(ended.took < SOON, "{ended:?}");
    }
}

#[test]
fn a_store_that_accepts_and_is_silent_is_given_up() {
    let fake = Fake::failing(|_, _| Some(Fault::Silent));
    for ended in both(&fake.endpoint(), &["--read-timeout", "1"]) {
        fails(&ended, 2, "Read timeout");
        assert!(ended.took < Duration::from_secs(4), "{ended:?}");
    }
}

#[test]
fn a_slow_store_is_waited_for() {
    let fake = Fake::failing(|_, _| Some(Fault::Late(Duration::from_millis(1200))));
    let desk = Desk::new(&fake.endpoint(), BUCKET);
    desk.write(SEGMENT, &segment(1));
    succeeds(&desk.archive(&["--zstd"], SEGMENT));
    succeeds(&desk.restore(&[], SEGMENT));
    assert_eq!(desk.restored(), segment(1));
}

#[test]
fn one_bad_answer_is_tried_again_and_many_are_not_waited_out() {
    for fault in [Fault::Status(503, "SlowDown"), Fault::Closed(100)] {
        let bad = fault.clone();
        let fake = Fake::failing(move |_, before| (before == 0).then(|| bad.clone()));
        let desk = Desk::new(&fake.endpoint(), BUCKET);
        desk.write(SEGMENT, &segment(1));
        succeeds(&desk.archive(&["--zstd"], SEGMENT));
        let fake = Fake::failing(move |_, before| (before == 0).then(|| fault.clone()));
        fake.put(&key(""), &segment(1));
        succeeds(&Desk::new(&fake.endpoint(), BUCKET).restore(&[], SEGMENT));
    }
    let fake = Fake::failing(|_, _| Some(Fault::Status(503, "SlowDown")));
    for ended in both(&fake.endpoint(), &[]) {
        fails(&ended, 4, "503 Service Unavailable, SlowDown");
        assert!(ended.took < Duration::from_secs(4), "{ended:?}");
    }
}

#[test]
fn a_store_that_dies_in_the_middle_of_an_upload_has_nothing() {
    let fake = Fake::failing(|request, _| (request.method == "PUT").then_some(Fault::Closed(50_000)));
    let desk = Desk::new(&fake.endpoint(), BUCKET);
    desk.write(SEGMENT, &segment(1));
    let ended = desk.archive(&[], SEGMENT);
    assert!(ended.code == 2, "{ended:?}");
    assert!(fake.keys().is_empty());
}

#[test]
fn an_answer_that_ends_early_restores_nothing() {
    for content in [segment(1), zstd::encode_all(&segment(1)[..], 1).unwrap()] {
        let suffix = if content.len() == segment(1).len() { "" } else { ".zst" };
        let fake = Fake::failing(|request, _| (!request.path.is_empty()).then_some(Fault::Cut));
        fake.put(&key(suffix), &content);
        let desk = Desk::new(&fake.endpoint(), BUCKET);
        desk.write("restored", b"what was there before");
        let ended = desk.restore(&[], SEGMENT);
        assert!(ended.code == 2, "{ended:?}");
        assert_eq!(desk.restored(), b"what was there before");
        assert_eq!(desk.files(), ["ours", "restored"]);
        // The list itself, too.
        let fake = Fake::failing(|_, _| Some(Fault::Cut));
        fake.put(&key(suffix), &content);
        let ended = Desk::new(&fake.endpoint(), BUCKET).restore(&[], SEGMENT);
        assert!(ended.code == 2, "{ended:?}");
    }
}

#[test]
fn an_object_that_is_garbled_or_cut_restores_nothing() {
    let whole = segment(1);
    let mut garbled = zstd::encode_all(&whole[..], 1).unwrap();
    let cut = garbled[..garbled.len() - 3].to_vec();
    let middle = garbled.len() / 2;
    garbled[middle..middle + 40].fill(0xff);
    let mut snappy = snap::write::FrameEncoder::new(Vec::new());
    std::io::Write::write_all(&mut snappy, &whole[..SEGMENT_SIZE / 4]).unwrap();
    for (suffix, content) in
        [(".zst", garbled), (".zst", cut), (".snappy", snappy.into_inner().unwrap()), (".gz", vec![])]
    {
        let fake = Fake::new();
        fake.put(&key(suffix), &content);
        let desk = Desk::new(&fake.endpoint(), BUCKET);
        fails(&desk.restore(&[], SEGMENT), 4, &key(suffix));
        assert_eq!(desk.files(), ["ours"]);
    }
}

#[test]
fn what_the_store_says_is_passed_on() {
    for (status, code) in [
        (403, "SignatureDoesNotMatch"),
        (403, "RequestTimeTooSkewed"),
        (403, "InvalidAccessKeyId"),
        (409, "QuotaExceeded"),
        (413, "EntityTooLarge"),
    ] {
        let fake = Fake::failing(move |request, _| (request.method == "PUT").then_some(Fault::Status(status, code)));
        let desk = Desk::new(&fake.endpoint(), BUCKET);
        desk.write(SEGMENT, &segment(1));
        let ended = desk.archive(&[], SEGMENT);
        fails(&ended, 4, code);
        assert!(!ended.said.contains("secret-secret"), "{ended:?}");
    }
    let fake =
        Fake::failing(|request, _| (request.method == "PUT").then_some(Fault::Status(507, "InsufficientStorage")));
    let desk = Desk::new(&fake.endpoint(), BUCKET);
    desk.write(SEGMENT, &segment(1));
    fails(&desk.archive(&[], SEGMENT), 4, "InsufficientStorage");
}

#[test]
fn a_private_authority_is_trusted_when_it_is_named() {
    let authority = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let private = PrivateKeyDer::try_from(authority.signing_key.serialize_der()).unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![authority.cert.der().clone()], private).unwrap();
    let fake = Fake::secure(config);
    let mut desk = Desk::new(&fake.endpoint(), BUCKET);
    desk.write(SEGMENT, &segment(1));
    // Nobody to believe, or somebody else: barman, which is not there, would have to decide.
    desk.set("SSL_CERT_FILE", "/nowhere");
    let ended = desk.archive(&[], SEGMENT);
    assert!(ended.code != 0, "{ended:?}");
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    desk.set("AWS_CA_BUNDLE", desk.write("other.crt", other.cert.pem().as_bytes()).to_str().unwrap());
    fails(&desk.archive(&[], SEGMENT), 4, "certificate");
    desk.set("AWS_CA_BUNDLE", desk.write("ca.crt", authority.cert.pem().as_bytes()).to_str().unwrap());
    succeeds(&desk.archive(&["--gzip"], SEGMENT));
    succeeds(&desk.restore(&[], SEGMENT));
    assert_eq!(desk.restored(), segment(1));
}
