//! Starts one control plane for the whole test binary and gives each test a namespace.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use stackctl::kube::{ApplyEvent, ApplyOptions, Change, ClusterRef, Kube, ObjectRef, apply};

/// How long the two processes may take to serve.
const START: Duration = Duration::from_secs(90);

/// The running control plane. Its processes end with this one: each waits for the end of its standard input.
pub struct ControlPlane {
    pub url: String,
    pub certificate: PathBuf,
    folder: tempfile::TempDir,
    _children: Mutex<Vec<Child>>,
}

/// The control plane; the first caller starts it.
pub fn control_plane() -> &'static ControlPlane {
    static RUNNING: OnceLock<Result<ControlPlane, String>> = OnceLock::new();
    let running = RUNNING.get_or_init(start);
    running.as_ref().unwrap_or_else(|error| panic!("{error}"))
}

/// A program of the control plane, or of what talks to it.
pub fn binary(name: &str) -> PathBuf {
    testbed::programs::made(name, "control-plane")
}

/// The text of upstream's release manifest of that name.
pub fn release_manifest(name: &str) -> String {
    let path = testbed::programs::made(&format!("../manifests/{name}"), "control-plane");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs a program that is ended when this process ends: at once, for a kube-apiserver whose etcd is gone first would
/// never come to the end of its own shutdown. The folder goes with it: a process that ends drops no static.
fn spawn(program: &Path, arguments: &[String], folder: &Path, log: &str) -> Result<Child, String> {
    let log = std::fs::File::create(folder.join(log)).map_err(|error| error.to_string())?;
    let script = r#""$@" </dev/null & child=$!; read -r _; kill -KILL $child; wait $child; rm -rf "$0""#;
    Command::new("sh")
        .args(["-c", script])
        .arg(folder)
        .arg(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(log.try_clone().map_err(|error| error.to_string())?)
        .stderr(log)
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", program.display()))
}

fn start() -> Result<ControlPlane, String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (etcd, server) = (binary("etcd"), binary("kube-apiserver"));
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let at = |name: &str| folder.path().join(name).display().to_string();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).map_err(|e| e.to_string());
    let key = rcgen::KeyPair::generate().map_err(|error| error.to_string())?;
    write("service-account.key", &key.serialize_pem())?;
    write("service-account.pub", &key.public_key_pem())?;
    write(
        "tokens.csv",
        "admin-token,admin,1,\"system:masters\"\nweak-token,weak,2\ntenant-token,tenant,3\npartial-token,partial,4\n",
    )?;

    let (client, peer, port) = (testbed::free_port(), testbed::free_port(), testbed::free_port());
    let etcd = spawn(
        &etcd,
        &[
            format!("--data-dir={}", at("etcd")),
            format!("--listen-client-urls=http://127.0.0.1:{client}"),
            format!("--advertise-client-urls=http://127.0.0.1:{client}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-cluster=default=http://127.0.0.1:{peer}"),
            "--unsafe-no-fsync".into(),
            "--log-level=error".into(),
        ],
        folder.path(),
        "etcd.log",
    )?;
    let server = spawn(
        &server,
        &[
            format!("--etcd-servers=http://127.0.0.1:{client}"),
            format!("--secure-port={port}"),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            format!("--cert-dir={}", at("certificates")),
            format!("--token-auth-file={}", at("tokens.csv")),
            "--authorization-mode=RBAC".into(),
            "--service-cluster-ip-range=10.0.0.0/24".into(),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={}", at("service-account.pub")),
            format!("--service-account-signing-key-file={}", at("service-account.key")),
            // Without a controller there are no service accounts for pods to have.
            "--disable-admission-plugins=ServiceAccount".into(),
        ],
        folder.path(),
        "kube-apiserver.log",
    )?;
    let plane = ControlPlane {
        url: format!("https://127.0.0.1:{port}"),
        certificate: folder.path().join("certificates/apiserver.crt"),
        folder,
        _children: Mutex::new(vec![etcd, server]),
    };
    plane.until_ready()?;
    Ok(plane)
}

impl ControlPlane {
    /// One that no other test works on.
    pub fn of_its_own() -> Self {
        start().unwrap_or_else(|error| panic!("{error}"))
    }

    fn until_ready(&self) -> Result<(), String> {
        let give_up = Instant::now() + START;
        let log = |name: &str| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        let cluster = self.cluster("admin-token");
        let outcome = std::thread::scope(|scope| {
            // A runtime must not be started inside another one, and the caller is in one.
            scope
                .spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(async {
                        loop {
                            if self.certificate.is_file()
                                && let Ok(kube) = Kube::connect(&cluster).await
                                && kube.client().request_text(request("/readyz")).await.is_ok()
                            {
                                return Ok(());
                            }
                            if Instant::now() > give_up || log("kube-apiserver.log").contains("command failed") {
                                return Err(());
                            }
                            tokio::time::sleep(Duration::from_millis(200)).await;
                        }
                    })
                })
                .join()
                .unwrap_or(Err(()))
        });
        outcome.map_err(|()| {
            let tail = |text: String| text.lines().rev().take(15).collect::<Vec<_>>().join("\n");
            format!(
                "the control plane does not serve within {} s\n{}\n{}",
                START.as_secs(),
                tail(log("etcd.log")),
                tail(log("kube-apiserver.log"))
            )
        })
    }

    /// A kubeconfig for a token, in a file of its own.
    pub fn kubeconfig(&self, token: &str, edit: impl FnOnce(&mut Value)) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": self.url, "certificate-authority": self.certificate}}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        edit(&mut config);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("kubeconfig-{number}"));
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    pub fn cluster(&self, token: &str) -> ClusterRef {
        ClusterRef { kubeconfig: Some(self.kubeconfig(token, |_| {})), context: None }
    }

    pub async fn connect(&self) -> Kube {
        Kube::connect(&self.cluster("admin-token")).await.unwrap()
    }
}

pub fn request(path: &str) -> http::Request<Vec<u8>> {
    http::Request::get(path).body(Vec::new()).unwrap()
}

/// A connection and a namespace of its own.
pub struct Sandbox {
    pub kube: Kube,
    pub namespace: String,
}

pub async fn sandbox(name: &str) -> Sandbox {
    let kube = control_plane().connect().await;
    let namespace = format!("test-{name}");
    create(&kube, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).await;
    Sandbox { kube, namespace }
}

impl Sandbox {
    pub fn object(&self, api_version: &str, kind: &str, name: &str, rest: Value) -> DynamicObject {
        let mut all = json!({
            "apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": self.namespace},
        });
        if let (Value::Object(all), Value::Object(rest)) = (&mut all, rest) {
            all.extend(rest);
        }
        serde_json::from_value(all).unwrap()
    }

    pub fn config_map(&self, name: &str, value: &str) -> DynamicObject {
        self.object("v1", "ConfigMap", name, json!({"data": {"key": value}}))
    }

    pub fn deployment(&self, name: &str) -> DynamicObject {
        self.object(
            "apps/v1",
            "Deployment",
            name,
            json!({"spec": {
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}},
                             "spec": {"containers": [{"name": "web", "image": "web:1"}]}}}}),
        )
    }

    pub fn reference(&self, api_version: &str, kind: &str, name: &str) -> ObjectRef {
        ObjectRef::namespaced(api_version, kind, &self.namespace, name)
    }

    pub async fn apply(&self, objects: &[DynamicObject]) -> anyhow::Result<Vec<Change>> {
        self.apply_with(objects, options()).await
    }

    pub async fn apply_with(&self, objects: &[DynamicObject], options: ApplyOptions) -> anyhow::Result<Vec<Change>> {
        let changes = apply(&self.kube, objects, options, &|_: ApplyEvent| {}).await?;
        Ok(changes.into_iter().map(|(_, change)| change).collect())
    }

    pub async fn get(&self, reference: &ObjectRef) -> Option<DynamicObject> {
        self.kube.get(reference).await.unwrap()
    }
}

pub fn options() -> ApplyOptions {
    ApplyOptions { force_conflicts: false, dry_run: false, deadline: Instant::now() + Duration::from_secs(20) }
}

/// Creates an object as another client would.
pub async fn create(kube: &Kube, object: Value) -> DynamicObject {
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let api = kube.api(&ObjectRef::of(&object).unwrap()).await.unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

/// Writes a status as a controller would.
pub async fn set_status(kube: &Kube, reference: &ObjectRef, status: Value) {
    let api: Api<DynamicObject> = kube.api(reference).await.unwrap();
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status(&reference.name, &PatchParams::default(), &patch).await.unwrap();
}

/// The failure's words, kind and remedies in one text.
pub fn words(error: &anyhow::Error) -> String {
    format!("{} [{}]", stackctl::error::one_line(error), stackctl::error::remedies_of(error).join(" | "))
}
