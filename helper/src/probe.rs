//! The answers to the kubelet's probes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// How long a probe may take.
const PROBE: Duration = Duration::from_secs(2);
/// The helper is taken to be stuck when it has not looked for so long: it looks every few seconds.
const STUCK: Duration = Duration::from_secs(60);

/// When the helper last looked; shared with the probes.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    began: Instant,
    /// Milliseconds since `began`.
    last: Arc<AtomicU64>,
}

impl Default for Heartbeat {
    fn default() -> Heartbeat {
        Heartbeat { began: Instant::now(), last: Arc::default() }
    }
}

impl Heartbeat {
    /// Notes that it looks now.
    pub fn beat(&self) {
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    fn is_stuck(&self) -> bool {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(last) > STUCK
    }
}

/// Answers probes for good: `200` while the helper looks, `503` once it is stuck.
pub async fn serve(listener: TcpListener, heartbeat: Heartbeat) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let heartbeat = heartbeat.clone();
                tokio::spawn(timeout(PROBE, answer(stream, heartbeat)));
            }
            Err(error) => {
                tracing::warn!("cannot accept a probe's connection: {error}");
                tokio::time::sleep(PROBE).await;
            }
        }
    }
}

/// Whatever is asked gets the one answer there is.
async fn answer(mut stream: TcpStream, heartbeat: Heartbeat) -> std::io::Result<()> {
    let mut request = [0; 1024];
    let _ = stream.read(&mut request).await?;
    let status = if heartbeat.is_stuck() { "503 Service Unavailable" } else { "200 OK" };
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn probe(heartbeat: Heartbeat) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(listener, heartbeat));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        timeout(PROBE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        serving.abort();
        answer
    }

    #[tokio::test]
    async fn a_probe_is_answered_by_whether_the_helper_still_looks() {
        let heartbeat = Heartbeat::default();
        heartbeat.beat();
        assert!(probe(heartbeat).await.starts_with("HTTP/1.1 200 "));
        let Some(began) = Instant::now().checked_sub(STUCK * 2) else { return };
        let stuck = Heartbeat { began, last: Arc::default() };
        assert!(probe(stuck).await.starts_with("HTTP/1.1 503 "));
    }
}
