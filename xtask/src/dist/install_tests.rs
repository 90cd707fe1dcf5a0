//! The install script, against a file server of this machine.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{INSTALL, ReleaseSource, digest, pack};

/// A release in a folder, and a server that gives it away.
struct Release {
    folder: tempfile::TempDir,
    url: String,
}

/// How the server answers for the archive.
#[derive(Clone, Copy, PartialEq)]
enum Serves {
    Whole,
    /// Half of it, and then the connection ends.
    Half,
    /// The page of a login, for every file.
    Page,
}

fn release(serves: Serves) -> Release {
    let folder = tempfile::tempdir().unwrap();
    let source = ReleaseSource { version: "9.9.9".into(), commit: "c".into(), committed: 1, is_changed: false };
    let program = b"#!/bin/sh\necho \"stackctl 9.9.9\"\n".to_vec();
    let mut sums = String::new();
    for target in ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl", "aarch64-apple-darwin"] {
        let name = format!("stackctl-9.9.9-{target}");
        let path = folder.path().join(format!("{name}.tar.gz"));
        pack(&source, &name, &[("stackctl".into(), program.clone(), true)], &path).unwrap();
        sums.push_str(&format!("{}  {name}.tar.gz\n", digest::file(&path).unwrap()));
    }
    fs::write(folder.path().join("SHA256SUMS"), sums).unwrap();
    let url = serve(folder.path().to_owned(), serves);
    Release { folder, url }
}

fn serve(folder: PathBuf, serves: Serves) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let first = lines.next().unwrap_or_default();
            lines.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
            let path = first.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
            let body = match serves {
                Serves::Page => b"<html>Please log in</html>\n".to_vec(),
                _ => fs::read(folder.join(&path)).unwrap_or_default(),
            };
            let code = if body.is_empty() { "404 Not Found" } else { "200 OK" };
            let head = format!("HTTP/1.1 {code}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let is_half = serves == Serves::Half && path.ends_with(".gz");
            let sent = if is_half { body.len() / 2 } else { body.len() };
            // Whoever hung up is not interested any more.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body[..sent]));
        }
    });
    url
}

fn install(release: &Release, home: &Path, more: &[&str]) -> Output {
    let script = home.join("install.sh");
    fs::write(&script, INSTALL).unwrap();
    let mut command = Command::new("sh");
    command.arg(script).args(["--from", &release.url]).args(more).env("HOME", home).env_remove("http_proxy");
    command.env("TMPDIR", home).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What is in the home folder beside the script.
fn kept(home: &Path) -> Vec<PathBuf> {
    digest::files(home).unwrap().into_iter().filter(|path| path != Path::new("install.sh")).collect()
}

#[test]
fn it_installs_what_the_sums_name_and_replaces_what_was_there() {
    let (release, home) = (release(Serves::Whole), tempfile::tempdir().unwrap());
    for _ in 0..2 {
        let output = install(&release, home.path(), &[]);
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains("installed stackctl 9.9.9") && said(&output).contains("not in PATH yet"));
        assert_eq!(kept(home.path()), [Path::new(".local/bin/stackctl")]);
    }
    let sums = digest::file(&release.folder.path().join("SHA256SUMS")).unwrap();
    let to = home.path().join("elsewhere").display().to_string();
    let output = install(&release, home.path(), &["--to", &to, "--sums-sha256", &sums]);
    assert!(output.status.success() && home.path().join("elsewhere/stackctl").exists(), "{}", said(&output));
}

#[test]
fn a_changed_archive_is_not_installed() {
    let (release, home) = (release(Serves::Whole), tempfile::tempdir().unwrap());
    for path in digest::files(release.folder.path()).unwrap().iter().filter(|path| path.extension().is_some()) {
        let path = release.folder.path().join(path);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let output = install(&release, home.path(), &[]);
    assert!(!output.status.success() && said(&output).contains("is not what SHA256SUMS says"), "{}", said(&output));
    assert!(kept(home.path()).is_empty(), "{:?}", kept(home.path()));
}

#[test]
fn changed_sums_are_noticed_by_whoever_knows_theirs() {
    let (release, home) = (release(Serves::Whole), tempfile::tempdir().unwrap());
    let output = install(&release, home.path(), &["--sums-sha256", &"0".repeat(64)]);
    assert!(!output.status.success() && said(&output).contains("is not the one"), "{}", said(&output));
    assert!(kept(home.path()).is_empty());
}

#[test]
fn a_download_that_is_cut_and_a_page_in_its_place_leave_nothing_behind() {
    for (serves, told) in [(Serves::Half, "cannot download"), (Serves::Page, "names no archive")] {
        let (release, home) = (release(serves), tempfile::tempdir().unwrap());
        let output = install(&release, home.path(), &[]);
        assert!(!output.status.success() && said(&output).contains(told), "{}", said(&output));
        assert!(kept(home.path()).is_empty(), "{:?}", kept(home.path()));
    }
}

#[test]
fn a_place_without_a_release_is_named() {
    let (mut release, home) = (release(Serves::Whole), tempfile::tempdir().unwrap());
    release.url.push_str("/no-such");
    let output = install(&release, home.path(), &[]);
    assert!(!output.status.success() && said(&output).contains("/no-such/SHA256SUMS"), "{}", said(&output));
}
