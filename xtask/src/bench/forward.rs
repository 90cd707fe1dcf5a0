//! `cargo xtask bench forward`: a port-forward by `stackctl open` and one by `kubectl port-forward`, side by side,
//! to the same pod; and how soon each works again after that pod is deleted.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde_json::{Value, json};

use super::write;
use crate::bundle;
use crate::run::Run;
use crate::say::{say, tell};
use crate::stackctl::RELEASE;
use crate::stats::median;

/// A namespace of its own, deleted afterwards.
const NAMESPACE: &str = "stackctl-bench-forward";
/// `stackctl open` leads to the Service of this name.
const SERVICE: &str = "user-app";
/// What is downloaded, in MiB.
const SIZE: usize = 256;
/// Downloads by each way, in turns: the machine's other work hits both alike.
const ROUNDS: usize = 5;
/// Downloads at the same time, in the rounds with several.
const PARALLEL: usize = 4;
/// Connections made one after the other.
const CONNECTIONS: usize = 100;
/// How often the pod is deleted.
const DELETIONS: usize = 10;
/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where and how to measure.
#[derive(Debug, clap::Args)]
pub struct BenchForwardArgs {
    /// The context of a running cluster, e.g. the profile of a stack that is up.
    #[arg(long, default_value = "stackctl", value_name = "NAME")]
    context: String,
    /// The results as JSON [default: bench-forward.json in Cargo's target folder].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// One way.
#[derive(Debug, Default, Serialize)]
struct Way {
    /// MiB/s of one download, a value a round.
    one: Vec<f64>,
    /// MiB/s of several at the same time, all together.
    several: Vec<f64>,
    /// Milliseconds from connecting until the whole answer to a small request was there: the median.
    connection_ms: f64,
}

/// All that was measured.
#[derive(Debug, Default, Serialize)]
struct ForwardFigures {
    stackctl: Way,
    kubectl: Way,
    /// Medians of stackctl's by kubectl's: above 1 stackctl is faster.
    ratio_one: f64,
    ratio_several: f64,
    /// Seconds from when the new pod was ready until a request through stackctl's port was answered, a second too
    /// many at most.
    works_again: Vec<f64>,
    /// How many of the deletions kubectl's port-forward survived.
    kubectl_survived: usize,
}

/// Measures, prints a table and writes the results.
///
/// # Errors
/// When something of it fails; what it made in the cluster is deleted all the same.
pub fn bench(args: &BenchForwardArgs) -> Result<()> {
    bundle::make_only(bundle::Only::ControlPlane)?;
    let stackctl = RELEASE.build()?;
    let target = Target { kubectl: bundle::programs_folder()?.join("kubectl"), context: args.context.clone() };
    target.make(&image(&bundle::default_folder()?)?)?;
    let results = measure(&target, &stackctl)?;
    print(&results);
    let file = write(&results, args.out.as_deref(), "bench-forward")?;
    say(&format!("written to {}", file.display()));
    Ok(())
}

/// The image of a small HTTP server: the bundle's busybox, which every node has without a registry.
fn image(bundle: &Path) -> Result<String> {
    let file = bundle.join("bundle.json");
    let text = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let manifest: Value = serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", file.display()))?;
    let components = manifest["components"].as_array().context("the bundle has no components")?;
    let found = components.iter().find(|each| each["name"] == "busybox").and_then(|each| each["image"].as_str());
    Ok(found.context("the bundle has no busybox")?.to_owned())
}

fn measure(target: &Target, stackctl: &Path) -> Result<ForwardFigures> {
    let mut results = ForwardFigures::default();
    let ours = Forward::start(
        Command::new(stackctl)
            .args(["open", "--no-browser", "-o", "json", "--namespace", NAMESPACE])
            .args(["--context", &target.context]),
        |line| serde_json::from_str::<Value>(line).ok()?["address"].as_str().map(str::to_owned),
    )?;
    let theirs = target.port_forward()?;
    for round in 1..=ROUNDS {
        say(&format!("round {round} of {ROUNDS}"));
        for (way, address) in [(&mut results.stackctl, ours.address), (&mut results.kubectl, theirs.address)] {
            way.one.push(throughput(address, 1)?);
            way.several.push(throughput(address, PARALLEL)?);
        }
    }
    for (way, address) in [(&mut results.stackctl, ours.address), (&mut results.kubectl, theirs.address)] {
        let mut times = Vec::new();
        for _ in 0..CONNECTIONS {
            let began = Instant::now();
            get(address, "/small")?;
            times.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        way.connection_ms = median(&times);
    }
    results.ratio_one = median(&results.stackctl.one) / median(&results.kubectl.one);
    results.ratio_several = median(&results.stackctl.several) / median(&results.kubectl.several);
    drop(theirs);
    for deletion in 1..=DELETIONS {
        say(&format!("deletion {deletion} of {DELETIONS}"));
        let theirs = target.port_forward()?;
        get(theirs.address, "/small")?;
        results.works_again.push(target.delete_pod_and_ask(ours.address)?);
        results.kubectl_survived += usize::from(get(theirs.address, "/small").is_ok());
    }
    Ok(results)
}

/// MiB/s of so many downloads at the same time, all together.
fn throughput(address: SocketAddr, parallel: usize) -> Result<f64> {
    let began = Instant::now();
    let downloads: Vec<_> = (0..parallel).map(|_| std::thread::spawn(move || get(address, "/large"))).collect();
    let mut bytes = 0;
    for download in downloads {
        bytes += download.join().map_err(|_| anyhow::anyhow!("a download panicked"))??;
    }
    if bytes < (parallel * SIZE) << 20 {
        bail!("{bytes} bytes came of {parallel} × {SIZE} MiB");
    }
    Ok(bytes as f64 / f64::from(1 << 20) / began.elapsed().as_secs_f64())
}

/// Asks on a connection of its own and reads the whole answer; returns its length.
fn get(address: SocketAddr, path: &str) -> Result<usize> {
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // In one piece: a server may answer and hang up on the first that it reads.
    socket.write_all(format!("GET {path} HTTP/1.0\r\nHost: bench\r\n\r\n").as_bytes())?;
    let (mut chunk, mut head, mut length) = (vec![0; 1 << 18], Vec::new(), 0);
    loop {
        let read = socket.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        if head.len() < 16 {
            head.extend_from_slice(&chunk[..read.min(16)]);
        }
        length += read;
    }
    if !head.starts_with(b"HTTP/1.") || !head.windows(5).any(|part| part == b" 200 ") {
        bail!("no answer: {:?}", String::from_utf8_lossy(&head));
    }
    Ok(length)
}

/// A program that forwards a local port; ended when dropped.
#[derive(Debug)]
struct Forward {
    process: Child,
    address: SocketAddr,
}

impl Forward {
    /// Starts it and waits until it tells its address in a line that `address` understands.
    fn start(command: &mut Command, address: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let shown = format!("{command:?}");
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {shown}"))?;
        let output = process.stdout.take().context("it has no output")?;
        let mut forward = Forward { process, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let (to, lines) = mpsc::channel();
        // It goes on reading: a pipe that is full would stop the program.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = to.send(line);
            }
        });
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = lines.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            let line = line.with_context(|| format!("{shown} tells no address"))?;
            if let Some(found) = address(&line) {
                let found = found.trim_start_matches("http://").trim_end_matches('/');
                forward.address = found.parse().with_context(|| format!("{shown} tells {found:?}"))?;
                return Ok(forward);
            }
        }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The pod that is forwarded to, with its Service; deleted when dropped.
#[derive(Debug)]
struct Target {
    kubectl: PathBuf,
    context: String,
}

impl Target {
    fn run(&self, args: &[&str]) -> Run {
        Run::new(&self.kubectl, PATIENCE.as_secs()).args(["--context", &self.context, "-n", NAMESPACE]).args(args)
    }

    fn make(&self, image: &str) -> Result<()> {
        let script = format!(
            "dd if=/dev/zero of=/data/large bs=1048576 count={SIZE} && echo ok > /data/small && \
             exec httpd -f -p 8080 -h /data"
        );
        let labels = json!({"app": "bench"});
        let container = json!({
            "name": "httpd", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "readinessProbe": {"httpGet": {"path": "/small", "port": 8080}, "periodSeconds": 1},
        });
        // It ends at once, as if it had crashed.
        let pods = json!({"metadata": {"labels": labels}, "spec": {
            "terminationGracePeriodSeconds": 0, "containers": [container],
            "volumes": [{"name": "data", "emptyDir": {}}],
        }});
        let items = json!([
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": SERVICE, "namespace": NAMESPACE},
             "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}},
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bench", "namespace": NAMESPACE},
             "spec": {"selector": {"matchLabels": labels}, "template": pods}},
        ]);
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(list.to_string().as_bytes())?;
        self.run(&["apply", "--server-side", "-f"]).args([file.path()]).go()?;
        self.run(&["rollout", "status", "deployment/bench", "--timeout=80s"]).go()
    }

    fn port_forward(&self) -> Result<Forward> {
        let mut command = Command::new(&self.kubectl);
        command.args([
            "--context",
            &self.context,
            "-n",
            NAMESPACE,
            "port-forward",
            &format!("service/{SERVICE}"),
            ":80",
        ]);
        Forward::start(&mut command, |line| {
            let rest = line.strip_prefix("Forwarding from ")?;
            rest.starts_with("127.").then(|| rest.split(' ').next().unwrap_or_default().to_owned())
        })
    }

    /// Deletes the pod and asks through the port again and again. The seconds from when a new pod was ready until
    /// an answer came: a second too many at most, as Kubernetes notes whole ones.
    fn delete_pod_and_ask(&self, address: SocketAddr) -> Result<f64> {
        let name = self.run(&["get", "pods", "-o", "name"]).output()?;
        // Until it is gone: then only the new one can answer.
        self.run(&["delete", name.trim(), "--wait"]).go()?;
        let deadline = Instant::now() + PATIENCE;
        while get(address, "/small").is_err() {
            if Instant::now() > deadline {
                bail!("the port never worked again");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let answered = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() % DAY;
        let path = "jsonpath={.items[0].status.conditions[?(@.type==\"Ready\")].lastTransitionTime}";
        let ready = self.run(&["get", "pods", "-o", path]).output()?;
        let ready = second_of_day(&ready).with_context(|| format!("a pod is ready since {ready:?}"))?;
        Ok((answered - ready).rem_euclid(DAY))
    }
}

const DAY: f64 = 86_400.0;

/// Of a time like `2026-11-24T10:55:42Z`.
fn second_of_day(time: &str) -> Option<f64> {
    let clock = time.split_once('T')?.1.strip_suffix('Z')?;
    clock.split(':').try_fold(0.0, |sum, part| Some(sum * 60.0 + part.parse::<f64>().ok()?))
}

impl Drop for Target {
    fn drop(&mut self) {
        // What a failed run has made, too; without it there is nothing to tell.
        let _ = self.run(&["delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false"]).go();
    }
}

fn print(results: &ForwardFigures) {
    let (ours, theirs) = (&results.stackctl, &results.kubectl);
    tell("");
    tell(&format!("{:<36}{:>10}{:>10}{:>8}", "", "stackctl", "kubectl", "ratio"));
    let row = |what: &str, ours: f64, theirs: f64, ratio: f64| {
        tell(&format!("{what:<36}{ours:>10.1}{theirs:>10.1}{ratio:>8.2}"));
    };
    row("one download, MiB/s", median(&ours.one), median(&theirs.one), results.ratio_one);
    row("four at the same time, MiB/s", median(&ours.several), median(&theirs.several), results.ratio_several);
    let ratio = theirs.connection_ms / ours.connection_ms;
    row("a connection and its answer, ms", ours.connection_ms, theirs.connection_ms, ratio);
    let worst = results.works_again.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let survived = results.kubectl_survived;
    tell(&format!("pod deleted {DELETIONS} times: it works again {worst:.1} s after a pod is ready at the latest"));
    tell(&format!("kubectl's port-forward survived {survived} of them"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn only_a_good_answer_counts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            for answer in ["HTTP/1.0 200 OK\r\n\r\nhello", "HTTP/1.0 404 Not Found\r\n\r\n", ""] {
                let (mut socket, _) = listener.accept().unwrap();
                let _ = socket.read(&mut [0; 1024]).unwrap();
                socket.write_all(answer.as_bytes()).unwrap();
            }
        });
        assert_eq!(get(address, "/").unwrap(), 24);
        assert!(get(address, "/").unwrap_err().to_string().contains("404"));
        assert!(get(address, "/").is_err());
        serving.join().unwrap();
    }

    #[test]
    fn kubernetes_times_are_read() {
        assert_eq!(second_of_day("2026-11-24T10:55:42Z"), Some(39_342.0));
        assert_eq!(second_of_day(""), None);
    }
}
