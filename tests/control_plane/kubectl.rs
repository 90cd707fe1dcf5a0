//! Whatever kubectl accepts works, and whatever it refuses is refused: a table of kubeconfigs and environments, each given
//! to both. kubectl is asked for the API's versions, stackctl for its check of the API: both ask the server who they are.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::harness::{ControlPlane, binary, control_plane};

/// One answer may take so long; a refusal takes a try or two.
const PATIENCE: Duration = Duration::from_secs(40);

/// What both programs are given.
struct Input {
    folder: PathBuf,
    config: Value,
    /// Written instead of `config`.
    text: Option<String>,
    context: String,
    env: Vec<(&'static str, String)>,
    /// The value of KUBECONFIG; by default the one file.
    list: Option<String>,
}

impl Input {
    fn new(plane: &ControlPlane, folder: &Path) -> Self {
        let config = json!({
            "apiVersion": "v1", "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": plane.url, "certificate-authority": plane.certificate}}],
            "users": [{"name": "u", "user": {"token": "admin-token"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        });
        let folder = folder.to_owned();
        Input { folder, config, text: None, context: "x".into(), env: Vec::new(), list: None }
    }

    fn cluster(&mut self) -> &mut Value {
        &mut self.config["clusters"][0]["cluster"]
    }

    fn user(&mut self, user: Value) {
        self.config["users"][0]["user"] = user;
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// A plugin that prints `answer`, as the user's.
    fn plugin(&mut self, answer: &str, exec: Value) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.file("plugin", &format!("#!/bin/sh\n{answer}\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut all = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "command": path, "interactiveMode": "IfAvailable",
        });
        let Value::Object(exec) = exec else { panic!("no object: {exec}") };
        all.as_object_mut().unwrap().extend(exec);
        self.user(json!({"exec": all}));
    }

    fn prepare(&self) -> String {
        let text = self.text.clone().unwrap_or_else(|| self.config.to_string());
        let path = self.file("config", &text);
        self.list.clone().unwrap_or(path)
    }
}

fn credential(version: &str) -> String {
    let text = json!({
        "apiVersion": format!("client.authentication.k8s.io/{version}"), "kind": "ExecCredential",
        "status": {"token": "admin-token"},
    });
    format!("echo '{text}'")
}

fn authority(plane: &ControlPlane) -> String {
    STANDARD.encode(std::fs::read(&plane.certificate).unwrap())
}

fn wrapped(text: &str) -> String {
    text.as_bytes().chunks(60).map(|line| std::str::from_utf8(line).unwrap()).collect::<Vec<_>>().join("\n")
}

/// A proxy that connects to wherever it is asked to; its address. It ends with the test's process.
fn proxy() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || serve(client));
        }
    });
    format!("http://{address}")
}

fn serve(mut client: TcpStream) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let target = String::from_utf8_lossy(&head).split(' ').nth(1)?.to_owned();
    let server = TcpStream::connect(target).ok()?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let (mut to_server, mut from_client) = (server.try_clone().ok()?, client.try_clone().ok()?);
    std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
    let mut server = server;
    std::io::copy(&mut server, &mut client).ok()?;
    Some(())
}

type Case = (&'static str, fn(&ControlPlane, &mut Input));

/// The inputs. A name says what is odd about each.
#[rustfmt::skip]
const CASES: &[Case] = &[
    ("a token", |_, _| {}),
    ("a token in a file", |_, i| { let file = i.file("token", "admin-token\n"); i.user(json!({"tokenFile": file})); }),
    ("a token's file that is not there", |_, i| i.user(json!({"tokenFile": "/nonexistent/token"}))),
    ("a token and a token's file", |_, i| { let file = i.file("token", "admin-token"); i.user(json!({"token": "expired", "tokenFile": file})); }),
    ("an expired token", |_, i| i.user(json!({"token": "expired"}))),
    ("an empty token", |_, i| i.user(json!({"token": ""}))),
    ("no credentials", |_, i| i.user(json!({}))),
    ("a user that is null", |_, i| i.user(Value::Null)),
    ("a password", |_, i| i.user(json!({"username": "admin", "password": "x"}))),
    ("a client certificate without a key", |p, i| { let file = p.certificate.display().to_string(); i.user(json!({"client-certificate": file})); }),
    ("a client certificate that is none", |_, i| i.user(json!({"client-certificate-data": "bm9uZQ==", "client-key-data": "bm9uZQ=="}))),
    ("a token for somebody else", |_, i| i.user(json!({"token": "admin-token", "as": "weak", "as-groups": ["system:authenticated"]}))),
    ("the authority in the file", |p, i| { let data = authority(p); *i.cluster() = json!({"server": p.url, "certificate-authority-data": data}); }),
    ("the authority in wrapped lines", |p, i| { let data = wrapped(&authority(p)); *i.cluster() = json!({"server": p.url, "certificate-authority-data": data}); }),
    ("the authority twice", |p, i| { let data = authority(p); i.cluster()["certificate-authority-data"] = json!(data); i.cluster()["certificate-authority"] = json!("/nonexistent"); }),
    ("the authority by a relative path", |p, i| { std::fs::copy(&p.certificate, i.folder.join("ca.crt")).unwrap(); i.cluster()["certificate-authority"] = json!("ca.crt"); }),
    ("an authority that is not there", |_, i| i.cluster()["certificate-authority"] = json!("/nonexistent/ca.crt")),
    ("an authority that is no certificate", |_, i| { let file = i.file("ca.crt", "none"); i.cluster()["certificate-authority"] = json!(file); }),
    ("an authority that is no base64", |p, i| *i.cluster() = json!({"server": p.url, "certificate-authority-data": "***"})),
    ("another authority", |p, i| { let other = rcgen::generate_simple_self_signed(["o".to_owned()]).unwrap().cert.pem(); *i.cluster() = json!({"server": p.url, "certificate-authority-data": STANDARD.encode(other)}); }),
    ("no authority", |p, i| *i.cluster() = json!({"server": p.url})),
    ("an insecure connection", |p, i| *i.cluster() = json!({"server": p.url, "insecure-skip-tls-verify": true})),
    ("an insecure connection with an authority", |_, i| i.cluster()["insecure-skip-tls-verify"] = json!(true)),
    ("another name of the server", |_, i| i.cluster()["tls-server-name"] = json!("kubernetes.default.svc")),
    ("a wrong name of the server", |_, i| i.cluster()["tls-server-name"] = json!("elsewhere.example.com")),
    ("an empty name of the server", |_, i| i.cluster()["tls-server-name"] = json!("")),
    ("a slash at the end", |p, i| i.cluster()["server"] = json!(format!("{}/", p.url))),
    ("a path", |p, i| i.cluster()["server"] = json!(format!("{}/k8s/clusters/c-1", p.url))),
    ("a scheme in capitals", |p, i| i.cluster()["server"] = json!(p.url.replace("https", "HTTPS"))),
    ("no scheme", |p, i| i.cluster()["server"] = json!(p.url.trim_start_matches("https://"))),
    ("plain HTTP", |p, i| i.cluster()["server"] = json!(p.url.replace("https", "http"))),
    ("an address that is none", |_, i| i.cluster()["server"] = json!("https://a b:1")),
    ("no server", |_, i| *i.cluster() = json!({})),
    ("nobody who listens", |_, i| i.cluster()["server"] = json!("https://127.0.0.1:1")),
    ("a name of this machine", |p, i| i.cluster()["server"] = json!(p.url.replace("127.0.0.1", "localhost"))),
    ("no compression", |_, i| i.cluster()["disable-compression"] = json!(true)),
    ("fields of a version to come", |_, i| { i.cluster()["new-field"] = json!({"a": 1}); i.config["preferences"] = json!({"colors": true}); }),
    ("extensions", |_, i| i.cluster()["extensions"] = json!([{"name": "e", "extension": {"provider": "minikube.sigs.k8s.io"}}])),
    ("a context that is not there", |_, i| i.context = "y".into()),
    ("a context without a user", |_, i| i.config["contexts"][0]["context"] = json!({"cluster": "c"})),
    ("a context with a user that is not there", |_, i| i.config["contexts"][0]["context"]["user"] = json!("v")),
    ("a context with a cluster that is not there", |_, i| i.config["contexts"][0]["context"]["cluster"] = json!("d")),
    ("a context whose name is an ARN", |_, i| { i.context = "arn:aws:eks:eu-1:1:cluster/p".into(); i.config["contexts"][0]["name"] = json!("arn:aws:eks:eu-1:1:cluster/p"); }),
    ("a context whose name has a space", |_, i| { i.context = "my cluster".into(); i.config["contexts"][0]["name"] = json!("my cluster"); }),
    ("no apiVersion and no kind", |_, i| { let config = i.config.as_object_mut().unwrap(); config.remove("apiVersion"); config.remove("kind"); }),
    ("another kind", |_, i| i.config["kind"] = json!("Secret")),
    ("lists that are null", |_, i| { i.config["users"] = Value::Null; i.config["extensions"] = Value::Null; }),
    ("an empty file", |_, i| i.text = Some(String::new())),
    ("no YAML", |_, i| i.text = Some("clusters: [".into())),
    ("YAML with an anchor", |_, i| { let json = i.config.to_string(); i.text = Some(format!("# by hand\n---\n{}", json.replacen("\"clusters\":", "\"clusters\": &c ", 1))); }),
    ("line ends of Windows", |_, i| { let text = serde_json::to_string_pretty(&i.config).unwrap(); i.text = Some(text.replace('\n', "\r\n")); }),
    ("a list whose first file is not there", |_, i| i.list = Some(format!("/nonexistent/config:{}", i.folder.join("config").display()))),
    ("a list with an empty entry", |_, i| i.list = Some(format!(":{}", i.folder.join("config").display()))),
    ("a list with an empty file", |_, i| { let empty = i.file("empty", ""); i.list = Some(format!("{empty}:{}", i.folder.join("config").display())); }),
    ("a cluster in one file and its user in another", |_, i| {
        let users = json!({"apiVersion": "v1", "kind": "Config", "users": i.config["users"]}).to_string();
        let other = i.file("users", &users);
        i.config["users"] = json!([]);
        i.list = Some(format!("{other}:{}", i.folder.join("config").display()));
    }),
    ("a user in two files, of which the first wins", |_, i| {
        let users = json!({"apiVersion": "v1", "kind": "Config", "users": [{"name": "u", "user": {"token": "expired"}}]}).to_string();
        let other = i.file("users", &users);
        i.list = Some(format!("{other}:{}", i.folder.join("config").display()));
    }),
    ("only files that are not there", |_, i| i.list = Some("/nonexistent/a:/nonexistent/b".into())),
    ("a folder", |_, i| i.list = Some(i.folder.display().to_string())),
    ("a plugin", |_, i| i.plugin(&credential("v1"), json!({}))),
    ("a plugin of the version before", |_, i| i.plugin(&credential("v1beta1"), json!({"apiVersion": "client.authentication.k8s.io/v1beta1"}))),
    ("a plugin that is not there", |_, i| i.plugin("", json!({"command": "no-such-plugin", "installHint": "get it"}))),
    ("a plugin by a relative path", |_, i| i.plugin(&credential("v1"), json!({"command": "./plugin"}))),
    ("a plugin that fails", |_, i| i.plugin("echo no >&2; exit 1", json!({}))),
    ("a plugin that says nothing", |_, i| i.plugin("true", json!({}))),
    ("a plugin that answers with no credentials", |_, i| i.plugin("echo '{}'", json!({}))),
    ("a plugin that answers in another version", |_, i| i.plugin(&credential("v1beta1"), json!({}))),
    ("a plugin that needs a terminal", |_, i| i.plugin(&credential("v1"), json!({"interactiveMode": "Always"}))),
    ("a plugin that never asks", |_, i| i.plugin(&credential("v1"), json!({"interactiveMode": "Never"}))),
    ("a plugin without a mode", |_, i| { i.plugin(&credential("v1"), json!({})); i.config["users"][0]["user"]["exec"].as_object_mut().unwrap().remove("interactiveMode"); }),
    ("a plugin of an unknown version", |_, i| i.plugin(&credential("v1"), json!({"apiVersion": "client.authentication.k8s.io/v1alpha1"}))),
    ("a plugin with variables", |_, i| i.plugin(&format!("test \"$WHO\" = me && {}", credential("v1")), json!({"env": [{"name": "WHO", "value": "me"}]}))),
    ("a plugin with arguments", |_, i| i.plugin(&format!("test \"$1\" = get && {}", credential("v1")), json!({"args": ["get"]}))),
    ("a plugin and a token", |_, i| { i.plugin(&credential("v1"), json!({})); i.config["users"][0]["user"]["token"] = json!("admin-token"); }),
    ("a proxy", |_, i| i.cluster()["proxy-url"] = json!(proxy())),
    ("a proxy that nobody answers for", |_, i| i.cluster()["proxy-url"] = json!("http://127.0.0.1:1")),
    ("a proxy of an unknown kind", |_, i| i.cluster()["proxy-url"] = json!("ftp://127.0.0.1:1")),
    ("an empty proxy", |_, i| i.cluster()["proxy-url"] = json!("")),
    ("a proxy of the environment, for this machine", |_, i| i.env.push(("HTTPS_PROXY", "http://127.0.0.1:1".into()))),
    ("a proxy of the environment that is none", |_, i| i.env.push(("HTTPS_PROXY", "::".into()))),
];

/// What is taken although kubectl refuses it: the client that stackctl uses does not compare the versions.
const TAKEN: [&str; 1] = ["a plugin that answers in another version"];

/// Runs a program to its end; whether it succeeded, and what it wrote.
fn run(mut command: Command) -> (bool, String, String) {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let give_up = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > give_up {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// Whether both take the input, with what they said.
fn ask(plane: &ControlPlane, case: &Case, kubectl: &Path) -> ((bool, String), (bool, String)) {
    let folder = tempfile::tempdir().unwrap();
    let mut input = Input::new(plane, folder.path());
    case.1(plane, &mut input);
    let list = input.prepare();
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let command = |program: &Path| {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", &home).env("PATH", "/usr/bin:/bin").env("KUBECONFIG", &list);
        command.current_dir(&home).envs(input.env.iter().map(|(name, value)| (name, value)));
        command
    };
    let mut theirs = command(kubectl);
    theirs.args(["--context", &input.context, "--request-timeout=10s", "api-versions"]);
    let (accepted, _, said) = run(theirs);
    let mut ours = command(Path::new(env!("CARGO_BIN_EXE_stackctl")));
    ours.args(["--context", &input.context, "--timeout", "30s", "-o", "json", "doctor"]);
    let (_, report, error) = run(ours);
    let report: Value = serde_json::from_str(report.lines().next().unwrap_or_default()).unwrap_or_default();
    let checks = report["checks"].as_array().cloned().unwrap_or_default();
    let api = checks.iter().find(|check| check["id"] == "api").cloned().unwrap_or_default();
    ((accepted, said), (api["status"] == "ok", format!("{api} {report} {error}")))
}

#[test]
fn what_kubectl_takes_is_taken_and_what_it_refuses_is_refused() {
    let (plane, kubectl) = (control_plane(), binary("kubectl"));
    assert!(CASES.len() >= 40);
    let (next, differences) = (Mutex::new(CASES.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(case) = next.lock().unwrap().next() else { break };
                    let ((theirs, said), (ours, told)) = ask(plane, case, &kubectl);
                    assert!(!told.contains("admin-token"), "{}: a token is shown: {told}", case.0);
                    if (theirs || TAKEN.contains(&case.0)) != ours {
                        let verb = if theirs { "takes" } else { "refuses" };
                        let found = format!("{}: kubectl {verb} it ({})\n    stackctl: {told}", case.0, said.trim());
                        differences.lock().unwrap().push(found);
                    }
                }
            });
        }
    });
    let differences = differences.into_inner().unwrap();
    assert!(differences.is_empty(), "{} of {}:\n{}", differences.len(), CASES.len(), differences.join("\n"));
}
