//! The Docker engine, through its command line.

use std::{collections::HashMap, path::Path, time::Duration};

use serde::Deserialize;

use super::{
    image::Identity,
    runner::{Cmd, OnLine, Output},
};
use crate::error::{Failure, Result, failed, missing};

/// How long a question to the engine may take; a busy machine is slow, a hung engine is an error.
const QUESTION: Duration = Duration::from_secs(30);
/// How long a container may take to start.
const STARTING: Duration = Duration::from_secs(60);

/// The engine as it describes itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Engine {
    /// The engine's version.
    pub server_version: String,
    /// CPUs that containers can use.
    #[serde(rename = "NCPU")]
    pub cpus: u32,
    /// Memory that containers can use, in bytes.
    pub mem_total: u64,
    /// Where it keeps images and volumes.
    pub docker_root_dir: String,
    /// `linux` or `windows`.
    #[serde(rename = "OSType")]
    pub os_type: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// E.g. `Docker Desktop`.
    pub operating_system: String,
    /// Filled by the command line where it can't reach the engine.
    server_errors: Vec<String>,
}

/// Asks the engine what it is.
///
/// # Errors
/// Not installed, not running, or not allowed (exit code 3), told apart.
pub async fn engine() -> Result<Engine> {
    let output = docker().args(["info", "--format", "{{json .}}"]).timeout(QUESTION).output().await;
    let output = output.map_err(not_installed)?;
    // Without an engine newer command lines print what they know of themselves, and the errors in it.
    let engine: Engine = serde_json::from_str(output.stdout.trim()).unwrap_or_default();
    if output.status.success() && engine.server_errors.is_empty() && !engine.server_version.is_empty() {
        return Ok(engine);
    }
    if is_podman(output.stdout.trim()) {
        return Err(missing("the command docker is Podman's: minikube's docker driver works with a Docker engine")
            .remedy(
                "install Docker (docker.io, docker-ce or Docker Desktop), or take a cluster that you have: --context",
            )
            .into());
    }
    let said = format!("{}\n{}", engine.server_errors.join("\n"), output.stderr);
    Err(unreachable_engine(said.trim()).into())
}

/// Whether an answer to `docker info` is Podman's, which has other names for everything.
fn is_podman(answer: &str) -> bool {
    let answer: serde_json::Value = serde_json::from_str(answer).unwrap_or_default();
    answer.pointer("/host/remoteSocket").is_some() || answer.pointer("/store/graphRoot").is_some()
}

/// How the containers of these names are; a name that has none is left out.
///
/// # Errors
/// The engine's failure.
pub async fn container_states(names: &[String]) -> Result<HashMap<String, String>> {
    let command = docker().args(["container", "inspect", "--format", "{{.Name}} {{.State.Status}}"]).args(names);
    let output = command.timeout(QUESTION).output().await.map_err(not_installed)?;
    // The exit code is 1 as soon as one is not there; those that are there are printed all the same.
    if !output.status.success() && !is_absent(&output) {
        return Err(explain(&output).into());
    }
    let states = output.stdout.lines().filter_map(|line| line.trim_start_matches('/').split_once(' '));
    Ok(states.map(|(name, state)| (name.to_owned(), state.to_owned())).collect())
}

/// What minikube makes in the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// A node, or a helper of a start that was interrupted.
    Container,
    /// A node's disk.
    Volume,
    /// The network of a profile's nodes.
    Network,
}

impl Made {
    /// The kind's name on docker's command line.
    pub const fn name(self) -> &'static str {
        match self {
            Made::Container => "container",
            Made::Volume => "volume",
            Made::Network => "network",
        }
    }
}

/// What minikube made of this kind, as names with the node or profile that minikube's label tells.
///
/// # Errors
/// The engine's failure.
pub async fn made_by_minikube(kind: Made) -> Result<Vec<(String, String)>> {
    let name = if kind == Made::Container { "{{.Names}}" } else { "{{.Name}}" };
    let format = format!("{name} {{{{.Label \"name.minikube.sigs.k8s.io\"}}}}");
    let all = (kind == Made::Container).then_some("--all");
    let command = docker().args([kind.name(), "ls"]).args(all).args(["--format", &format]);
    let command = command.args(["--filter", "label=created_by.minikube.sigs.k8s.io=true"]);
    let output = command.timeout(QUESTION).output().await.map_err(not_installed)?;
    if !output.status.success() {
        return Err(explain(&output).into());
    }
    let lines = output.stdout.lines().filter_map(|line| line.split_once(' '));
    Ok(lines.map(|(name, owner)| (name.to_owned(), owner.trim().to_owned())).collect())
}

/// The names of the containers, running or not, that use any of these volumes.
///
/// # Errors
/// The engine's failure.
pub async fn containers_with(volumes: &[&str]) -> Result<Vec<String>> {
    let filters = volumes.iter().flat_map(|volume| ["--filter".to_owned(), format!("volume={volume}")]);
    let command = docker().args(["container", "ls", "--all", "--format", "{{.Names}}"]).args(filters);
    let output = command.timeout(QUESTION).output().await.map_err(not_installed)?;
    if !output.status.success() {
        return Err(explain(&output).into());
    }
    Ok(output.stdout.lines().map(str::to_owned).collect())
}

/// Removes these, running or not, and a container's unnamed volumes with it.
///
/// # Errors
/// The engine's failure.
pub async fn remove(kind: Made, names: &[String]) -> Result<()> {
    let options: &[&str] = match kind {
        Made::Container => &["rm", "--force", "--volumes"],
        Made::Volume => &["rm", "--force"],
        Made::Network => &["rm"],
    };
    let command = docker().arg(kind.name()).args(options).args(names).timeout(Duration::from_secs(120));
    let output = command.output().await.map_err(not_installed)?;
    // Another one may have removed it in the same moment.
    if output.status.success() || is_absent(&output) { Ok(()) } else { Err(explain(&output).into()) }
}

/// The image of that name in the engine; `None` where it has none.
///
/// # Errors
/// The engine's failure.
pub async fn image(name: &str) -> Result<Option<Identity>> {
    let output = docker().args(["image", "inspect", name]).timeout(QUESTION).output().await.map_err(not_installed)?;
    if output.status.success() {
        return Identity::of_docker_inspect(&output.stdout).map(Some);
    }
    if is_absent(&output) {
        return Ok(None);
    }
    Err(explain(&output).into())
}

/// Builds the image `tag` from the folder `context`, with these build arguments.
///
/// # Errors
/// The build's failure with its last lines.
pub async fn build(
    context: &Path,
    tag: &str,
    arguments: &[(&str, String)],
    timeout: Duration,
    on_line: &mut OnLine<'_>,
) -> Result<()> {
    let arguments = arguments.iter().flat_map(|(name, value)| ["--build-arg".to_owned(), format!("{name}={value}")]);
    // `--network host`: the builder fetches sources, and the default bridge has neither the host's proxy
    // on 127.0.0.1 nor, on some machines, its name servers.
    let command = docker().args(["build", "--network", "host", "--tag", tag]).args(arguments).args(proxy_arguments());
    let command = command.arg(context).timeout(timeout);
    let command = if has_buildx().await { command } else { command.env("DOCKER_BUILDKIT", "0") };
    command.run_with(on_line).await.map(drop)
}

/// Loads the images in the file.
///
/// # Errors
/// The engine's failure.
pub async fn load(file: &Path, timeout: Duration) -> Result<()> {
    docker().arg("load").stdin_file(file)?.timeout(timeout).run().await.map(drop)
}

/// Gives the image a second name.
///
/// # Errors
/// The engine's failure.
pub async fn tag(image: &str, name: &str) -> Result<()> {
    docker().args(["tag", image, name]).timeout(QUESTION).run().await.map(drop)
}

/// Takes these names from their images, and the images that have no other away; one that is not there is left out.
///
/// # Errors
/// The engine's failure.
pub async fn remove_images(names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let command = docker().args(["image", "rm"]).args(names).timeout(Duration::from_secs(120));
    let output = command.output().await.map_err(not_installed)?;
    if output.status.success() || is_absent(&output) { Ok(()) } else { Err(explain(&output).into()) }
}

/// Writes the images to the file.
///
/// # Errors
/// The engine's failure, or a disk that is full.
pub async fn save_to(images: &[String], file: &Path, timeout: Duration) -> Result<()> {
    docker().args(["save", "--output"]).arg(file).args(images).timeout(timeout).run().await.map(drop)
}

/// `docker save IMAGE`, to be piped on.
pub fn save(image: &str, timeout: Duration) -> Cmd {
    docker().args(["save", image]).timeout(timeout)
}

/// `docker exec -i CONTAINER …`, to be run or piped to.
pub fn exec<'a>(container: &str, command: impl IntoIterator<Item = &'a str>) -> Cmd {
    docker().args(["exec", "-i", container]).args(command)
}

/// Kills a container, as a power failure would.
///
/// # Errors
/// The engine's failure.
pub async fn kill(containers: &[String]) -> Result<()> {
    docker().arg("kill").args(containers).timeout(QUESTION).run().await.map(drop)
}

/// Starts a container that is there; one that runs already is left alone.
///
/// # Errors
/// The engine's failure.
pub async fn start(container: &str) -> Result<()> {
    docker().args(["start", container]).timeout(STARTING).run().await.map(drop)
}

/// Lets those of these containers go on that are paused; a paused one answers nobody, not even who wants to end it.
///
/// # Errors
/// The engine's failure.
pub async fn unpause(names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let states = container_states(names).await?;
    let paused: Vec<_> = states.iter().filter(|(_, state)| *state == "paused").map(|(name, _)| name).collect();
    if paused.is_empty() {
        return Ok(());
    }
    docker().arg("unpause").args(paused).timeout(QUESTION).run().await.map(drop)
}

pub(super) fn docker() -> Cmd {
    Cmd::new("docker")
}

/// The command line of some distributions comes without buildx and then fails at every build, unless it
/// is told to use the classic builder.
async fn has_buildx() -> bool {
    let output = docker().args(["buildx", "version"]).timeout(QUESTION).output().await;
    output.is_ok_and(|output| output.status.success())
}

/// The engine does not pass the caller's proxy on by itself; the names below are predefined in every
/// Dockerfile and leave no trace in the image.
fn proxy_arguments() -> Vec<String> {
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"];
    let set = names.iter().filter(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    // Without a value docker takes it from the environment: a password in it stays out of the arguments.
    set.flat_map(|name| ["--build-arg".to_owned(), (*name).to_owned()]).collect()
}

fn is_absent(output: &Output) -> bool {
    let said = output.stderr.to_lowercase();
    said.contains("no such") && !said.contains("docker daemon")
}

fn explain(output: &Output) -> Failure {
    let said = output.stderr.trim();
    if looks_unreachable(said) { unreachable_engine(said) } else { failed(format!("docker failed: {said}")) }
}

fn looks_unreachable(said: &str) -> bool {
    let said = said.to_lowercase();
    ["cannot connect to the docker daemon", "permission denied", "is the docker daemon running"]
        .iter()
        .any(|text| said.contains(text))
}

pub(super) fn not_installed(error: anyhow::Error) -> anyhow::Error {
    if crate::error::kind_of(&error) != crate::error::Kind::Missing {
        return error;
    }
    missing("Docker is not installed: there is no docker command in PATH")
        .remedy("install Docker Engine: https://docs.docker.com/engine/install/")
        .remedy("or use a cluster that you already have: --context NAME")
        .into()
}

fn unreachable_engine(said: &str) -> Failure {
    if said.to_lowercase().contains("permission denied") {
        return missing("the Docker engine refuses you: permission denied on its socket")
            .remedy("add yourself to its group, then log in again: sudo usermod -aG docker $USER")
            .remedy("or for this shell only: newgrp docker");
    }
    let failure = missing(format!("no Docker engine answers: {}", first_line(said)));
    match std::env::var("DOCKER_HOST") {
        Ok(host) if !host.is_empty() => {
            failure.remedy(format!("DOCKER_HOST is {host}: check it, or unset it to use this machine's engine"))
        }
        _ => failure.remedy("start it: sudo systemctl start docker (or start Docker Desktop)"),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it gives no reason")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn not_running_and_not_allowed_are_told_apart() {
        for said in [
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            "error during connect: Get \"http://x/v1.24/version\": dial tcp: lookup x: no such host",
        ] {
            let failure = unreachable_engine(said);
            assert_eq!(failure.kind, Kind::Missing);
            assert!(failure.message.starts_with("no Docker engine answers: "), "{failure}");
        }
        for said in [
            "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
            "Got permission denied while trying to connect",
        ] {
            assert!(unreachable_engine(said).remedies[0].contains("usermod"), "{said}");
        }
    }
}
