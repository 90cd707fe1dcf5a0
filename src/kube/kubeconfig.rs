//! Reading kubeconfigs as kubectl does: a list of files of which some may be missing, a context, and from both the
//! connection's settings.

use std::{io::IsTerminal as _, path::PathBuf};

use k8s_openapi::ByteString;
use kube::{
    client::AuthError,
    config::{AuthInfo, Cluster, ExecAuthCluster, ExecConfig, ExecInteractiveMode, Kubeconfig, KubeconfigError},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value;

use super::proxy;
use crate::error::{Failure, Result, failed, missing, usage};

/// A cluster by a kubeconfig file and a context in it.
#[derive(Debug, Clone, Default)]
pub struct ClusterRef {
    /// `None`: `$KUBECONFIG`, then `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// `None`: the current context.
    pub context: Option<String>,
}

/// The kubeconfig of a command: the file that was named, else those of `$KUBECONFIG`, else `~/.kube/config`. Of several
/// files those that are not there are passed over, and what an earlier one says wins, as in kubectl.
///
/// # Errors
/// No file is there, or one cannot be read or is not valid.
pub fn read(cluster: &ClusterRef) -> Result<Kubeconfig> {
    let paths = match &cluster.kubeconfig {
        Some(path) => vec![path.clone()],
        None => paths_of_environment()?,
    };
    let mut merged: Option<Kubeconfig> = None;
    for path in &paths {
        let file = match Kubeconfig::read_from(path) {
            Ok(file) => file,
            Err(KubeconfigError::ReadConfig(io, _)) if io.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failure(error).into()),
        };
        if file.kind.as_deref().is_some_and(|kind| !kind.is_empty() && kind != "Config") {
            return Err(usage(format!("{} is no kubeconfig: its kind is another", path.display()))
                .remedy("name another file with --kubeconfig or KUBECONFIG")
                .into());
        }
        merged = Some(match merged {
            Some(before) => before.merge(file).map_err(failure)?,
            None => file,
        });
    }
    merged.ok_or_else(|| nowhere(&paths).into())
}

fn paths_of_environment() -> Result<Vec<PathBuf>> {
    let list = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let paths: Vec<PathBuf> = std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect();
    if !paths.is_empty() {
        return Ok(paths);
    }
    let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty()).ok_or_else(|| {
        missing("cannot tell where the kubeconfig is: HOME is not set")
            .remedy("name the file with --kubeconfig or KUBECONFIG")
    })?;
    Ok(vec![home.join(".kube/config")])
}

fn nowhere(paths: &[PathBuf]) -> Failure {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    missing(format!("there is no kubeconfig at {}", paths.join(" nor at ")))
        .remedy("create the cluster first (stackctl up), or name the file with --kubeconfig or KUBECONFIG")
}

/// The address of a cluster as the kubeconfig has it; `None` where it names none. Nobody is asked.
pub fn server(cluster: &ClusterRef) -> Option<String> {
    let file = read(cluster).ok()?;
    let wanted = cluster.context.as_deref().or(file.current_context.as_deref())?;
    let context = file.contexts.iter().find(|context| context.name == wanted)?.context.as_ref()?;
    let entry = file.clusters.iter().find(|named| named.name == context.cluster)?.cluster.as_ref()?;
    entry.server.clone()
}

/// The settings of the connection to a cluster.
///
/// # Errors
/// As [`read`]; no such context (lists those there are), or an entry that cannot be used.
pub fn configure(cluster: &ClusterRef) -> Result<kube::Config> {
    let file = read(cluster)?;
    let names: Vec<&str> = file.contexts.iter().map(|context| context.name.as_str()).collect();
    let current = file.current_context.as_deref().filter(|name| !name.is_empty());
    let wanted = cluster.context.as_deref().or(current).ok_or_else(|| no_current_context(&names))?;
    let context = file.contexts.iter().find(|context| context.name == wanted);
    let context = context.and_then(|named| named.context.as_ref()).ok_or_else(|| no_context(wanted, &names))?;
    let entry = file.clusters.iter().find(|named| named.name == context.cluster);
    let entry = entry.and_then(|named| named.cluster.as_ref()).ok_or_else(|| {
        usage(format!(
            "the context {wanted} names the cluster {:?}, which the kubeconfig does not have",
            context.cluster
        ))
        .remedy("mend the kubeconfig, or name another context with --context")
    })?;
    // A context may name no user, or one that is not there: kubectl goes on without credentials, too.
    let user = context.user.as_ref().and_then(|user| file.auth_infos.iter().find(|named| named.name == *user));
    let mut user =
        user.and_then(|named| named.auth_info.clone()).map(without_line_breaks).transpose()?.unwrap_or_default();
    prefer_token_file(&mut user);
    if let Some(exec) = &user.exec {
        check_plugin(exec, std::io::stdin().is_terminal())?;
    }
    if let Some(exec) = user.exec.as_mut().filter(|exec| exec.provide_cluster_info) {
        exec.cluster = Some(ExecAuthCluster::try_from(entry).map_err(failure)?);
    }

    let server = entry.server.as_deref().filter(|server| !server.is_empty());
    let server = server.ok_or_else(|| usage(format!("the kubeconfig's cluster {} has no server", context.cluster)))?;
    let uri = with_scheme(server, "http");
    let url: http::Uri = uri.parse().map_err(|error| {
        usage(format!("the server {server:?} of the kubeconfig's cluster {} is no address: {error}", context.cluster))
    })?;
    let mut config = kube::Config::new(url);
    config.default_namespace = context.namespace.clone().unwrap_or_else(|| "default".into());
    config.accept_invalid_certs = entry.insecure_skip_tls_verify.unwrap_or(false);
    config.disable_compression = entry.disable_compression.unwrap_or(false);
    config.tls_server_name = entry.tls_server_name.clone().filter(|name| !name.is_empty());
    config.root_cert = authority(entry)?;
    if config.accept_invalid_certs && config.root_cert.is_some() {
        return Err(usage(format!(
            "the kubeconfig's cluster {} has a certificate-authority and insecure-skip-tls-verify: one of them alone \
             has a meaning",
            context.cluster
        ))
        .remedy("take insecure-skip-tls-verify out")
        .into());
    }
    config.proxy_url = match entry.proxy_url.as_deref().map(str::trim).filter(|proxy| !proxy.is_empty()) {
        // What the kubeconfig says of this very cluster is not overruled by the environment, NO_PROXY included.
        Some(proxy) => Some(proxy::parse(proxy, "the kubeconfig's proxy-url")?),
        None => proxy::of_environment(&config.cluster_url)?,
    };
    config.auth_info = user;
    Ok(config)
}

/// Makes the token in a file the user's, where there is one: it comes before a token in the kubeconfig. One that ends with a
/// line break, as many that were written by hand do, is read once; one without is read anew when it has been replaced.
fn prefer_token_file(user: &mut AuthInfo) {
    let Some(path) = user.token_file.as_ref().filter(|path| !path.is_empty()) else { return };
    user.token = None;
    // One that cannot be read is told where it is used.
    if let Ok(text) = std::fs::read_to_string(path)
        && text.trim() != text
    {
        user.token = Some(text.trim().to_owned().into());
        user.token_file = None;
    }
}

/// Refuses a credential plugin that kubectl would not run either.
fn check_plugin(exec: &ExecConfig, on_terminal: bool) -> Result<()> {
    let name = exec.command.as_deref().unwrap_or("which is not named");
    let fault = match (exec.api_version.as_deref().and_then(|version| version.rsplit_once('/')), &exec.interactive_mode)
    {
        (Some(("client.authentication.k8s.io", "v1")), None) => {
            return Err(usage(format!("the kubeconfig's credential plugin {name} has no interactiveMode"))
                .remedy("write interactiveMode: IfAvailable beside its command")
                .into());
        }
        (Some(("client.authentication.k8s.io", "v1" | "v1beta1")), mode) => {
            let needs_terminal = matches!(mode, Some(ExecInteractiveMode::Always));
            (needs_terminal && !on_terminal).then_some("needs a terminal, and standard input is none")
        }
        _ => Some("is for no version of client.authentication.k8s.io that is known (v1, v1beta1)"),
    };
    match fault {
        None => Ok(()),
        Some(fault) => Err(failed(format!("the kubeconfig's credential plugin {name} {fault}"))
            .remedy("mend the kubeconfig's user, or name another context with --context")
            .into()),
    }
}

/// An address with a scheme, as client-go completes one that has none.
fn with_scheme(text: &str, scheme: &str) -> String {
    if text.contains("://") { text.to_owned() } else { format!("{scheme}://{text}") }
}

/// The certificates of the authority that the server's is checked against; `None`: those of this machine.
fn authority(cluster: &Cluster) -> Result<Option<Vec<Vec<u8>>>> {
    let data = cluster.certificate_authority_data.as_deref().filter(|data| !data.trim().is_empty());
    let pem = match (data, cluster.certificate_authority.as_deref().filter(|path| !path.is_empty())) {
        (Some(data), path) => {
            // It is not used, and kubectl wants it to be there all the same.
            path.map(authority_file).transpose()?;
            base64(data).ok_or_else(|| {
                usage("the kubeconfig's certificate-authority-data is not base64").remedy("mend the kubeconfig")
            })?
        }
        (None, Some(path)) => authority_file(path)?,
        (None, None) => return Ok(None),
    };
    let certificates: std::result::Result<Vec<Vec<u8>>, _> =
        CertificateDer::pem_slice_iter(&pem).map(|one| one.map(|one| one.to_vec())).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(Some(certificates)),
        _ => Err(usage("the kubeconfig's certificate authority holds no certificate in PEM").remedy("mend it").into()),
    }
}

fn authority_file(path: &str) -> Result<Vec<u8>> {
    let read = std::fs::read(path);
    read.map_err(|error| missing(format!("cannot read the kubeconfig's certificate-authority {path}: {error}")).into())
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let text: String = text.split_ascii_whitespace().collect();
    serde_json::from_value::<ByteString>(Value::String(text)).ok().map(|bytes| bytes.0)
}

/// The user with base64 in one line: tools wrap it, and kubectl takes it so.
fn without_line_breaks(user: AuthInfo) -> Result<AuthInfo> {
    let mut value = serde_json::to_value(&user)?;
    for key in ["client-certificate-data", "client-key-data"] {
        if let Some(Value::String(text)) = value.get_mut(key) {
            *text = text.split_ascii_whitespace().collect();
        }
    }
    let mut joined: AuthInfo = serde_json::from_value(value)?;
    // What is in no file.
    joined.exec = user.exec;
    Ok(joined)
}

fn failure(error: KubeconfigError) -> Failure {
    match error {
        KubeconfigError::ReadConfig(io, path) => {
            missing(format!("cannot read the kubeconfig {}: {io}", path.display()))
        }
        KubeconfigError::Parse(error) => usage(format!("the kubeconfig is not valid YAML: {error}"))
            .remedy("mend the file, or name another one with --kubeconfig"),
        other => usage(format!("the kubeconfig cannot be used: {other}")),
    }
}

fn no_current_context(names: &[&str]) -> Failure {
    let failure = usage("the kubeconfig has no current context and none was asked for");
    if names.is_empty() { failure } else { failure.remedy(format!("name one with --context: {}", names.join(", "))) }
}

fn no_context(wanted: &str, names: &[&str]) -> Failure {
    let failure = usage(format!("the kubeconfig has no context {wanted:?}"));
    if names.is_empty() {
        failure.remedy(
            "it has none at all: create the cluster first (stackctl up), or name another file with --kubeconfig",
        )
    } else {
        failure.remedy(format!("it has these: {}", names.join(", ")))
    }
}

/// Credentials that could not be had, in words: what a plugin wrote to stdout may be a token and is never shown.
pub fn credentials_failure(error: &AuthError, exec: Option<&ExecConfig>, server: &str) -> Failure {
    let plugin = exec.and_then(|exec| exec.command.as_deref()).unwrap_or("the plugin");
    match error {
        AuthError::AuthExecStart(io) if io.kind() == std::io::ErrorKind::NotFound => {
            let failure = missing(format!(
                "{plugin}, which the kubeconfig's user gets the credentials for {server} by, is not installed"
            ));
            match exec.and_then(|exec| exec.install_hint.as_deref()) {
                Some(hint) => failure.remedy(hint.trim()),
                None => failure.remedy("install it, or name another context with --context"),
            }
        }
        AuthError::AuthExecStart(io) => missing(format!("cannot start {plugin} for the credentials of {server}: {io}")),
        AuthError::AuthExecRun { out, .. } => {
            let said = String::from_utf8_lossy(&out.stderr);
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            let said = if said.is_empty() { "it gave no reason".to_owned() } else { said };
            failed(format!("{plugin} gave no credentials for {server} ({}): {said}", out.status))
                .remedy("log in again with the tool that the kubeconfig's user names")
        }
        // The parser's message quotes what it read.
        AuthError::AuthExecParse(_) => failed(format!("what {plugin} answered for {server} are no credentials"))
            .remedy("its version may be another than the kubeconfig's apiVersion asks for"),
        other => failed(format!("cannot get the credentials for {server}: {other}"))
            .remedy("log in again with the tool that the kubeconfig's user names"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(cluster: &str, user: &str) -> (tempfile::TempDir, ClusterRef) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- name: k\n  cluster:\n{cluster}\ncontexts:\n\
             - name: c\n  context: {{cluster: k, user: u}}\nusers:\n- name: u\n  user:\n{user}\n"
        );
        std::fs::write(&path, text).unwrap();
        (folder, ClusterRef { kubeconfig: Some(path), context: None })
    }

    #[test]
    fn base64_may_be_wrapped() {
        assert_eq!(base64("aGVs\n  bG8=\r\n").unwrap(), b"hello");
        assert!(base64("not base64!").is_none());
        let user = "    token: t\n    client-key-data: |\n      aGVs\n      bG8=";
        let (_folder, cluster) = config("    server: http://127.0.0.1:1", user);
        let config = configure(&cluster).unwrap();
        let json = serde_json::to_value(&config.auth_info).unwrap();
        assert_eq!((&json["client-key-data"], &json["token"]), (&"aGVsbG8=".into(), &"t".into()));
    }

    #[test]
    fn the_kubeconfigs_proxy_comes_first_and_a_server_may_have_no_scheme() {
        let (_folder, cluster) = config("    server: 127.0.0.1:1\n    proxy-url: 127.0.0.1:3128", "    token: t");
        let config = configure(&cluster).unwrap();
        assert_eq!(config.cluster_url.to_string(), "http://127.0.0.1:1/");
        assert_eq!(config.proxy_url.unwrap().to_string(), "http://127.0.0.1:3128/");
    }

    #[test]
    fn a_plugin_that_is_not_there_is_named_with_its_hint() {
        let exec: ExecConfig =
            serde_json::from_value(serde_json::json!({"command": "acme", "installHint": "Run get-acme"})).unwrap();
        let error = AuthError::AuthExecStart(std::io::ErrorKind::NotFound.into());
        let failure = credentials_failure(&error, Some(&exec), "https://a");
        assert_eq!(failure.kind.exit_code(), 3);
        assert!(failure.message.contains("acme") && failure.remedies == ["Run get-acme"], "{failure:?}");
    }
}
