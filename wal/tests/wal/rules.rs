//! What is archived and restored, and what is refused.

use crate::fake::{BASE, BUCKET, Fake, Fault};
use crate::programs::{Desk, SEGMENT, SEGMENT_SIZE, fails, segment, succeeds};

/// A list of a bucket that has nothing.
const NOTHING: &str = "<ListBucketResult><Name>backups</Name><IsTruncated>false</IsTruncated></ListBucketResult>";
const CREDENTIALS: &str = r#"{"AccessKeyId": "ROLEKEY", "SecretAccessKey": "s", "Token": "t", "RoleArn": "arn:role",
    "Expiration": "2099-01-01T00:00:00Z"}"#;
const FORMATS: [(&[&str], &str); 6] = [
    (&[], ""),
    (&["--gzip"], ".gz"),
    (&["-j"], ".bz2"),
    (&["--snappy"], ".snappy"),
    (&["--zstd"], ".zst"),
    (&["--lz4", "--compression-level", "high"], ".lz4"),
];

fn desk(fake: &Fake) -> Desk {
    Desk::new(&fake.endpoint(), BUCKET)
}

fn key(suffix: &str) -> String {
    format!("{BASE}/0000000100000000/{SEGMENT}{suffix}")
}

#[test]
fn what_is_archived_comes_back_in_every_format() {
    for (options, suffix) in FORMATS {
        let fake = Fake::new();
        let desk = desk(&fake);
        for (name, content) in [
            (SEGMENT.to_owned(), segment(1)),
            ("00000002.history".to_owned(), b"1\t0/3000000\tno recovery target specified\n".to_vec()),
            (format!("{SEGMENT}.partial"), segment(2)),
        ] {
            desk.write(&name, &content);
            succeeds(&desk.archive(options, &name));
            succeeds(&desk.restore(&[], &name));
            assert_eq!(desk.restored(), content, "{name}{suffix}");
        }
        let label = format!("{SEGMENT}.00000028.backup");
        desk.write(&label, b"START WAL LOCATION: 0/1000028\n");
        succeeds(&desk.archive(options, &label));
        let expected = ["", ".00000028.backup", ".partial"].map(|kind| key(&format!("{kind}{suffix}")));
        for key in expected {
            assert!(fake.get(&key).is_some(), "{key}: {:?}", fake.keys());
        }
        assert!(fake.get(&format!("{BASE}/00000002.history{suffix}")).is_some());
    }
}

#[test]
fn a_segment_that_is_there_is_not_replaced() {
    for (options, suffix) in FORMATS {
        let fake = Fake::new();
        let desk = desk(&fake);
        desk.write(SEGMENT, &segment(1));
        succeeds(&desk.archive(options, SEGMENT));
        let stored = fake.get(&key(suffix)).unwrap();
        // The same once more, however it is wrapped now.
        succeeds(&desk.archive(options, SEGMENT));
        succeeds(&desk.archive(&["--zstd"], SEGMENT));
        desk.write(SEGMENT, &segment(2));
        fails(&desk.archive(options, SEGMENT), 1, "its content is another one");
        fails(&desk.archive(&["--lz4"], SEGMENT), 1, &key(suffix));
        assert_eq!((fake.uploads(), fake.keys().len()), (1, 1));
        assert_eq!(fake.get(&key(suffix)), Some(stored));
    }
}

#[test]
fn a_garbled_one_is_not_replaced_either() {
    let fake = Fake::new();
    let desk = desk(&fake);
    fake.put(&key(".zst"), b"no zstd");
    desk.write(SEGMENT, &segment(1));
    fails(&desk.archive(&["--zstd"], SEGMENT), 1, "it cannot be read");
    assert_eq!(fake.get(&key(".zst")).unwrap(), b"no zstd");
    // The first half of the same is another content.
    let half = zstd::encode_all(&segment(1)[..SEGMENT_SIZE / 2], 1).unwrap();
    fake.put(&key(".zst"), &half);
    fails(&desk.archive(&["--zstd"], SEGMENT), 1, "another one");
}

#[test]
fn an_empty_object_is_replaced_under_its_own_name_only() {
    let fake = Fake::new();
    let desk = desk(&fake);
    fake.put(&key(".zst"), b"");
    desk.write(SEGMENT, &segment(1));
    fails(&desk.archive(&["--gzip"], SEGMENT), 1, "it is empty");
    succeeds(&desk.archive(&["--zstd"], SEGMENT));
    succeeds(&desk.restore(&[], SEGMENT));
    assert_eq!(desk.restored(), segment(1));
}

#[test]
fn an_unfinished_segment_is_replaced() {
    let fake = Fake::new();
    let desk = desk(&fake);
    let name = format!("{SEGMENT}.partial");
    for seed in [1, 2] {
        desk.write(&name, &segment(seed));
        succeeds(&desk.archive(&[], &name));
    }
    assert_eq!(fake.get(&key(".partial")), Some(segment(2)));
    // It stands in for the finished one, until that is there.
    succeeds(&desk.restore(&[], SEGMENT));
    assert_eq!(desk.restored(), segment(2));
    fails(&desk.restore(&["--no-partial"], SEGMENT), 1, "does not exist");
    fake.put(&key(".zst"), &zstd::encode_all(&segment(3)[..], 1).unwrap());
    succeeds(&desk.restore(&[], SEGMENT));
    assert_eq!(desk.restored(), segment(3));
}

#[test]
fn of_two_who_archive_at_once_one_wins() {
    // The other one comes between the question and the upload.
    let fake = Fake::failing(|request, _| request.path.is_empty().then_some(Fault::Body(NOTHING)));
    let desk = desk(&fake);
    desk.write(SEGMENT, &segment(1));
    fake.put(&key(""), &segment(1));
    succeeds(&desk.archive(&[], SEGMENT));
    fake.put(&key(""), &segment(2));
    fails(&desk.archive(&[], SEGMENT), 1, "another one");
    assert_eq!(fake.get(&key("")), Some(segment(2)));
}

#[test]
fn a_store_without_conditions_is_written_to_after_a_look() {
    let fake = Fake::failing(|request, _| {
        request.headers.contains_key("if-none-match").then_some(Fault::Status(501, "NotImplemented"))
    });
    let desk = desk(&fake);
    desk.write(SEGMENT, &segment(1));
    succeeds(&desk.archive(&[], SEGMENT));
    assert_eq!(fake.get(&key("")), Some(segment(1)));
    desk.write(SEGMENT, &segment(2));
    fails(&desk.archive(&[], SEGMENT), 1, "another one");
}

#[test]
fn keys_that_may_write_and_not_list_can_archive() {
    let fake = Fake::failing(|request, _| request.path.is_empty().then_some(Fault::Status(403, "AccessDenied")));
    let desk = desk(&fake);
    desk.write(SEGMENT, &segment(1));
    succeeds(&desk.archive(&[], SEGMENT));
    succeeds(&desk.archive(&[], SEGMENT));
    desk.write(SEGMENT, &segment(2));
    fails(&desk.archive(&[], SEGMENT), 1, "another one");
    fails(&desk.restore(&[], SEGMENT), 4, "403");
}

#[test]
fn only_the_stores_word_makes_a_segment_missing() {
    let fake = Fake::new();
    let desk = desk(&fake);
    for name in [SEGMENT, "00000002.history", "000000010000000000000001.00000028.backup"] {
        fails(&desk.restore(&[], name), 1, &format!("WAL file {name} for server db does not exist"));
    }
    // As far as is known, the history of a bucket that is not there may lie in another one.
    let gone = Fake::failing(|_, _| Some(Fault::Status(404, "NoSuchBucket")));
    fails(&Desk::new(&gone.endpoint(), BUCKET).restore(&[], SEGMENT), 4, "NoSuchBucket");
    assert_eq!(desk.files(), ["ours"]);
}

#[test]
fn names_that_are_none_are_bad_input() {
    let fake = Fake::new();
    let desk = desk(&fake);
    desk.write("some.file", b"x");
    fails(&desk.archive(&[], "some.file"), 3, "some.file is an invalid name for a WAL file");
    fails(&desk.restore(&[], "some.file"), 3, "some.file is an invalid name for a WAL file");
    assert!(fake.requests().is_empty());
}

#[test]
fn a_cut_segment_is_neither_archived_nor_restored() {
    let fake = Fake::new();
    let desk = desk(&fake);
    let whole = segment(1);
    for length in [0, 100, whole.len() / 2, whole.len() - 1] {
        desk.write(SEGMENT, &whole[..length]);
        fails(&desk.archive(&["--zstd"], SEGMENT), 4, "is not archived");
        fake.put(&key(""), &whole[..length]);
        fails(&desk.restore(&[], SEGMENT), 4, SEGMENT);
    }
    assert_eq!(fake.uploads(), 0);
    assert_eq!(desk.files(), [SEGMENT, "ours"]);
}

#[test]
fn tags_go_with_what_they_are_for() {
    let fake = Fake::new();
    let desk = desk(&fake);
    let options = ["--tags", "team,a", "kind,w al", "--history-tags", "kind,history"];
    for (name, content) in [(SEGMENT, segment(1)), ("00000002.history", b"x".to_vec())] {
        desk.write(name, &content);
        succeeds(&desk.archive(&options, name));
    }
    let tags: Vec<_> =
        fake.requests().iter().filter_map(|request| request.headers.get("x-amz-tagging").cloned()).collect();
    assert_eq!(tags, ["team=a&kind=w+al", "kind=history"]);
}

#[test]
fn encryption_is_asked_for() {
    let fake = Fake::new();
    let desk = desk(&fake);
    desk.write(SEGMENT, &segment(1));
    succeeds(&desk.archive(&["-e", "AES256"], SEGMENT));
    let asked = fake.requests().iter().find_map(|one| one.headers.get("x-amz-server-side-encryption").cloned());
    assert_eq!(asked.as_deref(), Some("AES256"));
}

#[test]
fn what_is_sent_is_signed_with_its_digest() {
    let fake = Fake::new();
    let mut desk = desk(&fake);
    desk.set("AWS_SESSION_TOKEN", "token");
    desk.set("AWS_DEFAULT_REGION", "eu-central-1");
    desk.write(SEGMENT, &segment(1));
    succeeds(&desk.archive(&[], SEGMENT));
    for request in fake.requests() {
        assert!(request.headers["authorization"].contains("/eu-central-1/s3/"), "{request:?}");
        assert_eq!(request.headers["x-amz-security-token"], "token");
        assert_eq!(request.headers["x-amz-content-sha256"].len(), 64);
        assert_eq!(request.headers["host"], fake.address.to_string());
    }
}

#[test]
fn a_role_gives_its_keys_by_an_address() {
    // One server is both the pod's agent and the store.
    let fake = Fake::failing(|request, _| (request.path == "creds").then_some(Fault::Body(CREDENTIALS)));
    let mut desk = desk(&fake);
    desk.unset("AWS_ACCESS_KEY_ID");
    desk.unset("AWS_SECRET_ACCESS_KEY");
    desk.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/creds", fake.endpoint()));
    desk.set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", desk.write("token", b"who-i-am").to_str().unwrap());
    desk.write(SEGMENT, &segment(1));
    succeeds(&desk.archive(&[], SEGMENT));
    let requests = fake.requests();
    assert_eq!(requests[0].headers["authorization"], "who-i-am");
    assert!(requests[1].headers["authorization"].contains("Credential=ROLEKEY/"));
}
