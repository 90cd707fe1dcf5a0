//! The stack's manifests, brought up without stackctl: by kubectl with waits in between, and by helm.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bundle;
use crate::run::Run;

/// One way of bringing the stack up on an empty cluster.
#[derive(Debug, Default, Serialize)]
pub struct Measured {
    /// Until the tool's last command had ended.
    pub returned: f64,
    /// Until everything was ready.
    pub ready: f64,
    /// The same once more, with nothing to change.
    pub again: f64,
    /// HTTP requests of that.
    pub again_requests: Option<u64>,
}

const WAIT: &str = "--timeout=600s";
const WAIT_SECONDS: u64 = 630;
/// For how long the operator's webhook may refuse what is applied right after it has started.
const WEBHOOK: Duration = Duration::from_secs(120);
const APP: &str = "user-app";

/// What `stackctl up` applies, by part.
#[derive(Debug)]
pub struct Parts {
    /// In the order in which a person would apply them.
    parts: Vec<(&'static str, Vec<Value>)>,
    /// The image of the web app.
    pub web_image: String,
}

impl Parts {
    /// Asks `stackctl render` for them.
    ///
    /// # Errors
    /// When it fails, or there is no web app among them.
    pub fn render(stackctl: &Path, bundle: &Path) -> Result<Self> {
        let mut parts = Vec::new();
        for part in ["base", "operator", "database", "autoscaling", "web"] {
            // Backups take Secrets that only stackctl makes: the comparison is without them on every side.
            let run = Run::new(stackctl, 60).args(["render", "-o", "json", "--without", "backup", "--part", part]);
            let list: Value =
                serde_json::from_str(&run.args(["--bundle"]).args([bundle]).output()?).context("it renders no JSON")?;
            let items = list["items"].as_array().with_context(|| format!("{part} is no list"))?;
            parts.push((part, items.clone()));
        }
        let objects = parts.iter().flat_map(|(_, objects)| objects);
        let web =
            objects.into_iter().find(|object| object["kind"] == "Deployment" && object["metadata"]["name"] == APP);
        let image = web.and_then(|web| web["spec"]["template"]["spec"]["containers"][0]["image"].as_str());
        let web_image = image.context("no web app is rendered")?.to_owned();
        Ok(Self { parts, web_image })
    }
}

/// kubectl on one context, and files to apply.
#[derive(Debug)]
pub struct Kubectl {
    context: String,
    program: PathBuf,
    files: TempDir,
}

impl Kubectl {
    /// The one that the air-gap builder has made.
    ///
    /// # Errors
    /// When no folder can be made.
    pub fn new(context: &str) -> Result<Self> {
        let program = bundle::programs_folder()?.join("kubectl");
        Ok(Self { context: context.to_owned(), program, files: tempfile::tempdir()? })
    }

    fn run(&self, args: &[&str]) -> Run {
        Run::new(&self.program, WAIT_SECONDS).args(["--context", &self.context]).args(args)
    }

    /// Applies the parts one after the other and waits for each, then does it all once more.
    ///
    /// # Errors
    /// When kubectl fails or something does not become ready.
    pub fn measure(&self, parts: &Parts) -> Result<Measured> {
        for (part, objects) in &parts.parts {
            let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
            fs::write(self.file(part), list.to_string()).context("cannot write a manifest")?;
        }
        let start = Instant::now();
        self.bring_up("--v=0", &mut 0)?;
        let returned = start.elapsed().as_secs_f64();
        self.wait_ready()?;
        let ready = start.elapsed().as_secs_f64();
        let (start, mut requests) = (Instant::now(), 0);
        self.bring_up("--v=6", &mut requests)?;
        Ok(Measured { returned, ready, again: start.elapsed().as_secs_f64(), again_requests: Some(requests) })
    }

    fn file(&self, part: &str) -> PathBuf {
        self.files.path().join(format!("{part}.json"))
    }

    /// Every command that one would type.
    fn bring_up(&self, verbosity: &str, requests: &mut u64) -> Result<()> {
        let mut step = |args: &[&str]| -> Result<()> {
            let log = self.files.path().join("log");
            let _ = fs::remove_file(&log);
            let outcome = self.run(args).args([verbosity]).log(&log).go();
            *requests += requests_in(&fs::read_to_string(&log).unwrap_or_default());
            outcome
        };
        let files = |part: &str| self.file(part).display().to_string();
        let apply = |file: &str| ["apply", "--server-side", "-f", file].map(str::to_owned);
        let deployment = |namespace: &str, name: &str| {
            ["rollout", "status", "-n", namespace, &format!("deployment/{name}"), WAIT].map(str::to_owned)
        };
        let mut go = |args: &[String]| step(&args.iter().map(String::as_str).collect::<Vec<_>>());
        go(&apply(&files("base")))?;
        go(&apply(&files("operator")))?;
        go(&["wait", "--for=condition=Established", "crd", "--all", WAIT].map(str::to_owned))?;
        go(&deployment("cnpg-system", "cnpg-controller-manager"))?;
        until_ok(WEBHOOK, || go(&apply(&files("database"))))?;
        go(&["wait", "-n", APP, "--for=condition=Ready", "cluster.postgresql.cnpg.io/user-db", WAIT]
            .map(str::to_owned))?;
        go(&apply(&files("autoscaling")))?;
        go(&deployment("kube-system", "metrics-server"))?;
        go(&apply(&files("web")))?;
        go(&deployment(APP, APP))
    }

    /// Until the database, the app and its autoscaler work: what `stackctl up` waits for too.
    ///
    /// # Errors
    /// When it takes more than ten minutes.
    fn wait_ready(&self) -> Result<()> {
        let wait = |condition: &str, what: &str| {
            self.run(&["wait", "-n", APP, &format!("--for=condition={condition}"), what, WAIT]).go()
        };
        wait("Ready", "cluster.postgresql.cnpg.io/user-db")?;
        wait("Available", "deployment/user-app")?;
        wait("ScalingActive", "hpa/user-app")
    }
}

/// helm on one context, and two charts: the operator must answer before what it watches can be applied.
#[derive(Debug)]
pub struct Helm {
    kubectl: Kubectl,
    program: PathBuf,
    charts: TempDir,
}

impl Helm {
    /// The one that the air-gap builder has made.
    ///
    /// # Errors
    /// When no folder can be made.
    pub fn new(context: &str) -> Result<Self> {
        let program = bundle::programs_folder()?.join("helm");
        Ok(Self { kubectl: Kubectl::new(context)?, program, charts: tempfile::tempdir()? })
    }

    /// Installs the charts, then upgrades them to the same.
    ///
    /// # Errors
    /// When helm fails or something does not become ready.
    pub fn measure(&self, parts: &Parts) -> Result<Measured> {
        let (first, rest): (Vec<_>, Vec<_>) = parts.parts.iter().partition(|(part, _)| *part == "operator");
        self.chart("operator", first.iter().flat_map(|(_, objects)| objects))?;
        self.chart("stack", rest.iter().flat_map(|(_, objects)| objects))?;
        let context = ["--kube-context", self.kubectl.context.as_str()];
        let start = Instant::now();
        self.upgrade(&context)?;
        let returned = start.elapsed().as_secs_f64();
        self.kubectl.wait_ready()?;
        let ready = start.elapsed().as_secs_f64();
        let start = Instant::now();
        self.upgrade(&context)?;
        let again = start.elapsed().as_secs_f64();
        let proxy = Proxy::start(&self.kubectl)?;
        self.upgrade(&["--kube-apiserver", &proxy.address])?;
        Ok(Measured { returned, ready, again, again_requests: Some(proxy.requests()?) })
    }

    fn upgrade(&self, target: &[&str]) -> Result<()> {
        let release = |name: &str| {
            Run::new(&self.program, WAIT_SECONDS)
                .args(["upgrade", "--install", "--wait", "--timeout", "600s", name])
                .args([self.charts.path().join(name)])
                .args(target)
                .go()
        };
        release("operator")?;
        until_ok(WEBHOOK, || release("stack"))
    }

    fn chart<'a>(&self, name: &str, objects: impl Iterator<Item = &'a Value>) -> Result<()> {
        let folder = self.charts.path().join(name);
        for below in ["crds", "templates"] {
            fs::create_dir_all(folder.join(below)).context("cannot make a chart")?;
        }
        fs::write(folder.join("Chart.yaml"), format!("apiVersion: v2\nname: {name}\nversion: 1.0.0\n"))?;
        for (at, object) in objects.enumerate() {
            let (below, text) = if object["kind"] == "CustomResourceDefinition" {
                ("crds", object.to_string())
            } else {
                ("templates", object.to_string().replace("{{", "{{ \"{{\" }}"))
            };
            fs::write(folder.join(below).join(format!("{at}.yaml")), text).context("cannot write a chart")?;
        }
        Ok(())
    }
}

/// Tries until it works or the time is up; the last error is told then.
fn until_ok(time: Duration, mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + time;
    loop {
        match attempt() {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_secs(1)),
            outcome => return outcome,
        }
    }
}

/// Answers that a Kubernetes client has logged at level 6.
fn requests_in(log: &str) -> u64 {
    log.lines().filter(|line| line.contains("\"Response\" verb=")).count() as u64
}

/// A proxy in front of the API server that logs each request; it ends when dropped.
#[derive(Debug)]
struct Proxy {
    process: Child,
    address: String,
    log: PathBuf,
}

impl Proxy {
    fn start(kubectl: &Kubectl) -> Result<Self> {
        let log = kubectl.files.path().join("proxy.log");
        let mut process = Command::new(&kubectl.program)
            .args(["--context", &kubectl.context, "--v=6", "proxy", "--port=0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .context("cannot start kubectl proxy")?;
        let mut line = String::new();
        let output = process.stdout.take().context("kubectl proxy has no output")?;
        let mut proxy = Self { process, address: String::new(), log };
        BufReader::new(output).read_line(&mut line)?;
        let Some(address) = line.trim().rsplit(' ').next().filter(|address| address.contains(':')) else {
            bail!("kubectl proxy says: {line:?}");
        };
        proxy.address = format!("http://{address}");
        Ok(proxy)
    }

    fn requests(&self) -> Result<u64> {
        Ok(requests_in(&fs::read_to_string(&self.log).context("cannot read the proxy's log")?))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_keeps_braces_and_puts_kinds_where_helm_looks() {
        let helm = Helm::new("none").unwrap();
        let objects =
            [json!({"kind": "CustomResourceDefinition"}), json!({"kind": "ConfigMap", "data": {"a": "{{ x }}"}})];
        helm.chart("c", objects.iter()).unwrap();
        let read = |path: &str| fs::read_to_string(helm.charts.path().join("c").join(path)).unwrap();
        assert!(read("crds/0.yaml").contains("CustomResourceDefinition"));
        assert!(read("templates/1.yaml").contains(r#"{{ "{{" }} x }}"#));
        assert!(read("Chart.yaml").contains("name: c"));
    }

    #[test]
    fn answers_in_a_log_are_counted() {
        let log = "I1 round_trippers.go:632] \"Response\" verb=\"GET\" url=\"x\" status=\"200 OK\"\nother\n";
        assert_eq!(requests_in(log), 1);
    }

    #[test]
    fn what_never_works_ends_with_its_error() {
        let error = until_ok(Duration::ZERO, || bail!("refused")).unwrap_err();
        assert_eq!(error.to_string(), "refused");
    }
}
