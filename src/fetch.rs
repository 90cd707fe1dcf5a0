//! Downloads of pinned files: an address, a SHA-256, and a cache.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use sha2::{Digest, Sha256};
use ureq::{
    Agent,
    tls::{RootCerts, TlsConfig},
};

use crate::{
    bundle::{cannot_write, hex, sha256_file},
    error::{Failure, Result, failed},
};

/// Attempts at a download; a connection that breaks is common, one that breaks three times is a state.
const ATTEMPTS: u32 = 3;
/// No byte for this long is a broken connection.
const SILENCE: Duration = Duration::from_secs(30);

/// Returns the file at `url` whose content hashes to `sha256`, from `cache` or else downloaded into it.
/// `progress` gets the bytes that have arrived, and the total if the server tells.
///
/// # Errors
/// A server that can't be reached or refuses, a file of another content, a disk that is full.
pub async fn fetch(
    cache: &Path,
    url: &str,
    sha256: &str,
    progress: impl Fn(u64, Option<u64>) + Send + 'static,
) -> Result<PathBuf> {
    // The wait for the thread below can be dropped; this tells the thread.
    struct Cancel(Arc<AtomicBool>);
    impl Drop for Cancel {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let cancel = Cancel(Arc::default());
    let download = Transfer {
        folder: cache.join("downloads"),
        url: url.to_owned(),
        sha256: sha256.to_ascii_lowercase(),
        cancelled: cancel.0.clone(),
    };
    tokio::task::spawn_blocking(move || download.run(&progress)).await.context("the download stopped")?
}

struct Transfer {
    folder: PathBuf,
    url: String,
    sha256: String,
    cancelled: Arc<AtomicBool>,
}

impl Transfer {
    fn run(&self, progress: &dyn Fn(u64, Option<u64>)) -> Result<PathBuf> {
        let name = self.url.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("file");
        // The content's hash in the name: another version never meets an old file.
        let target = self.folder.join(format!("{}-{name}", &self.sha256[..12.min(self.sha256.len())]));
        if target.is_file() && sha256_file(&target)? == self.sha256 {
            return Ok(target);
        }
        fs::create_dir_all(&self.folder).map_err(|error| cannot_write(&self.folder, &error))?;
        let mut attempt = 1;
        loop {
            match self.attempt(&target, progress) {
                Ok(()) => return Ok(target),
                Err(Trouble::Final(failure)) => return Err(failure.into()),
                Err(Trouble::Passing(_)) if attempt < ATTEMPTS && !self.cancelled.load(Ordering::Relaxed) => {
                    std::thread::sleep(Duration::from_millis(500 << attempt));
                    attempt += 1;
                }
                Err(Trouble::Passing(failure)) => return Err(failure.into()),
            }
        }
    }

    fn attempt(&self, target: &Path, progress: &dyn Fn(u64, Option<u64>)) -> std::result::Result<(), Trouble> {
        let mut response = agent().get(&self.url).call().map_err(|error| self.refused(&error))?;
        let total = response.body().content_length();
        let mut body = response.body_mut().as_reader();
        let write_error = |error: std::io::Error| Trouble::Final(cannot_write(target, &error));
        let mut part = tempfile::NamedTempFile::new_in(&self.folder).map_err(write_error)?;
        let mut hash = Sha256::new();
        let mut chunk = vec![0; 256 << 10];
        let mut done = 0;
        loop {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(Trouble::Final(failed(format!("the download of {} was stopped", self.url))));
            }
            let count = match body.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) => return Err(self.unreachable(&format!("the connection broke: {error}"))),
            };
            hash.update(&chunk[..count]);
            part.write_all(&chunk[..count]).map_err(write_error)?;
            done += count as u64;
            progress(done, total);
        }
        let actual = hex(&hash.finalize());
        if actual != self.sha256 {
            let failure = failed(format!(
                "{} is not the file that was expected: its sha256 is {actual}, {} is expected",
                self.url, self.sha256
            ));
            return Err(Trouble::Final(
                failure.remedy("something between here and there changes downloads; use a bundle: --bundle DIR"),
            ));
        }
        part.as_file().sync_all().map_err(write_error)?;
        part.persist(target).map_err(|error| write_error(error.error))?;
        Ok(())
    }

    fn refused(&self, error: &ureq::Error) -> Trouble {
        match error {
            ureq::Error::StatusCode(code @ 400..500) => Trouble::Final(
                failed(format!("cannot download {}: the server answers {code}", self.url))
                    .remedy("use a bundle, which needs no network: --bundle DIR"),
            ),
            ureq::Error::StatusCode(code) => self.unreachable(&format!("the server answers {code}")),
            other => self.unreachable(&other.to_string()),
        }
    }

    fn unreachable(&self, why: &str) -> Trouble {
        Trouble::Passing(
            failed(format!("cannot download {}: {why}", self.url))
                .remedy("check the network of this machine; HTTPS_PROXY and NO_PROXY are honoured")
                .remedy("or use a bundle, which needs no network: --bundle DIR"),
        )
    }
}

enum Trouble {
    /// Another attempt may succeed.
    Passing(Failure),
    /// It will not.
    Final(Failure),
}

fn agent() -> Agent {
    let tls = TlsConfig::builder()
        // What the machine trusts: a company's own CA is in there.
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .timeout_resolve(Some(SILENCE))
        .timeout_connect(Some(Duration::from_secs(15)))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .user_agent(concat!("stackctl/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        net::TcpListener,
        sync::atomic::AtomicUsize,
    };

    use super::*;
    use crate::error::{one_line, remedies_of};

    /// A server that gives these answers, one a connection, and counts the connections.
    fn server(answers: Vec<&'static str>) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        (format!("http://{address}/tool"), count)
    }

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    const SUM: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    #[tokio::test]
    async fn a_file_is_downloaded_once_and_again_when_the_cached_one_was_changed() {
        let cache = tempfile::tempdir().unwrap();
        let (url, count) = server(vec![OK, OK]);
        let path = fetch(cache.path(), &url, SUM, |_, _| {}).await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "hello");
        assert_eq!(fetch(cache.path(), &url, SUM, |_, _| {}).await.unwrap(), path);
        assert_eq!(count.load(Ordering::SeqCst), 1);
        fs::write(&path, "hullo").unwrap();
        fetch(cache.path(), &url, SUM, |_, _| {}).await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "hello");
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn another_content_is_refused_and_leaves_nothing() {
        let cache = tempfile::tempdir().unwrap();
        let (url, _) = server(vec![OK]);
        let error = fetch(cache.path(), &url, &"0".repeat(64), |_, _| {}).await.unwrap_err();
        let text = one_line(&error);
        assert!(text.contains(SUM) && text.contains(&"0".repeat(64)), "{text}");
        assert_eq!(fs::read_dir(cache.path().join("downloads")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_broken_connection_is_tried_again_and_a_refusal_is_not() {
        let cache = tempfile::tempdir().unwrap();
        let broken = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhe";
        let (url, count) = server(vec![broken, OK]);
        fetch(cache.path(), &url, SUM, |_, _| {}).await.unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 2);
        let (url, count) = server(vec!["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"]);
        let error = fetch(cache.path(), &url, &"1".repeat(64), |_, _| {}).await.unwrap_err();
        assert!(one_line(&error).contains("the server answers 404"), "{error:#}");
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn nobody_there_names_the_address_and_the_way_out() {
        let cache = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}/tool");
        let error = fetch(cache.path(), &url, SUM, |_, _| {}).await.unwrap_err();
        assert!(one_line(&error).contains(&format!("cannot download {url}")), "{error:#}");
        assert!(remedies_of(&error).iter().any(|remedy| remedy.contains("--bundle")));
    }
}
