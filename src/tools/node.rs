//! Images inside minikube's nodes, which are containers of the host's engine.

use std::{collections::HashSet, path::Path, time::Duration};

use serde::Deserialize;

use super::{docker, image::Identity};
use crate::{
    error::{Result, failed},
    poll::Tries,
};

/// How long an import may take; an image of a few megabytes takes a second.
const IMPORT: Duration = Duration::from_secs(300);
/// The container runtime's own list of images follows an import by events, a moment later.
const SETTLE: Duration = Duration::from_secs(10);

/// Where an image is taken from.
#[derive(Debug, Clone, Copy)]
pub enum ImageSource<'a> {
    /// The host's engine.
    Engine,
    /// A file that `docker save` wrote.
    File(&'a Path),
}

/// The image that the node has under this name, as its container runtime sees it.
///
/// # Errors
/// The node does not answer.
pub async fn image(node: &str, name: &str) -> Result<Option<Identity>> {
    let command = docker::exec(node, ["crictl", "inspecti", "-o", "json", &full_name(name)]);
    let output = command.timeout(Duration::from_secs(30)).output().await?;
    if output.status.success() {
        return Identity::of_crictl_inspect(&output.stdout).map(Some);
    }
    if output.stderr.contains("no such image") || output.stderr.contains("not found") {
        return Ok(None);
    }
    Err(failed(format!("the node {node} does not answer: {}", output.tail())).into())
}

/// Those of the images that the node does not have.
///
/// # Errors
/// The node does not answer.
pub async fn lacking<'a>(node: &str, names: impl IntoIterator<Item = &'a str>) -> Result<Vec<&'a str>> {
    let command = docker::exec(node, ["crictl", "images", "-o", "json"]);
    let output = command.timeout(Duration::from_secs(30)).run().await?;
    not_listed(&output.stdout, names)
        .map_err(|error| failed(format!("the node {node} does not say which images it has: {error}")).into())
}

fn not_listed<'a>(list: &str, names: impl IntoIterator<Item = &'a str>) -> serde_json::Result<Vec<&'a str>> {
    let list: ImageList = serde_json::from_str(list)?;
    let there: HashSet<&str> = list.images.iter().flat_map(|image| &image.repo_tags).map(String::as_str).collect();
    Ok(names.into_iter().filter(|name| !there.contains(full_name(name).as_str())).collect())
}

/// What `crictl images -o json` prints, as far as it is read.
#[derive(Debug, Deserialize)]
struct ImageList {
    #[serde(default)]
    images: Vec<ListedImage>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedImage {
    #[serde(default)]
    repo_tags: Vec<String>,
}

/// Puts every image of an archive, compressed or not, into the node.
///
/// # Errors
/// The import's failure.
pub async fn import(node: &str, archive: &Path, timeout: Duration) -> Result<()> {
    // containerd's own tool takes plain archives only.
    let unpack = if archive.extension().is_some_and(|extension| extension == "gz") { "gzip -dc" } else { "cat" };
    let script = format!("{unpack} | ctr --namespace k8s.io images import -");
    docker::exec(node, ["sh", "-c", &script]).timeout(timeout).stdin_file(archive)?.run().await.map(drop)
}

/// Puts the image into the node and checks that the node now has that very image under this name.
///
/// Images are streamed straight into the node's containerd: no intermediate file, and several times faster
/// than `minikube image load`, which also keeps an old image of the same name.
///
/// # Errors
/// The import's failure, or another image in the node afterwards.
pub async fn load(node: &str, name: &str, source: ImageSource<'_>, expected: &Identity) -> Result<()> {
    match source {
        ImageSource::Engine => {
            let import = docker::exec(node, ["ctr", "--namespace", "k8s.io", "images", "import", "-"]);
            docker::save(name, IMPORT).pipe_to(import.timeout(IMPORT)).await?;
        }
        ImageSource::File(path) => import(node, path, IMPORT).await?,
    }
    let mut tries = Tries::within(SETTLE, Duration::from_millis(200));
    loop {
        let there = image(node, name).await?;
        if there.as_ref() == Some(expected) {
            return Ok(());
        }
        if !tries.another().await {
            let what = if there.is_some() { "another image of that name" } else { "no image of that name" };
            return Err(failed(format!("{name} was loaded into the node {node}, which has {what} all the same"))
                .remedy(format!("docker exec {node} crictl rmi {}, then run the same command again", full_name(name)))
                .into());
        }
    }
}

/// Sets a key of the kubelet's configuration file and restarts the kubelet, if it is not set so already. What
/// runs on the node goes on.
///
/// # Errors
/// The node does not answer.
pub async fn configure_kubelet(node: &str, key: &str, value: &str) -> Result<()> {
    let script = format!(
        "f=/var/lib/kubelet/config.yaml; grep -qxF '{key}: {value}' $f || {{ sed -i '/^{key}:/d' $f && \
         echo '{key}: {value}' >>$f && systemctl restart kubelet; }}"
    );
    docker::exec(node, ["sh", "-c", &script]).timeout(Duration::from_secs(60)).run().await.map(drop)
}

/// The name with its registry, as the container runtime writes it.
fn full_name(name: &str) -> String {
    match name.split_once('/') {
        None => format!("docker.io/library/{name}"),
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_counts_as_there_under_the_very_name_that_is_asked_for() {
        let list = r#"{"images": [{"id": "a", "repoTags": ["ghcr.io/a/b:1", "docker.io/library/c:1"]}, {"id": "d"}]}"#;
        let names = ["ghcr.io/a/b:1", "ghcr.io/a/b:2", "c:1", "d:1"];
        assert_eq!(not_listed(list, names).unwrap(), ["ghcr.io/a/b:2", "d:1"]);
        assert_eq!(not_listed("{}", ["a:1"]).unwrap(), ["a:1"]);
        assert!(not_listed("oops", ["a:1"]).is_err());
    }

    #[test]
    fn names_get_their_registry() {
        for (short, full) in [
            ("user-app:1", "docker.io/library/user-app:1"),
            ("rancher/x:1", "docker.io/rancher/x:1"),
            ("ghcr.io/a/b:1", "ghcr.io/a/b:1"),
            ("localhost/a:1", "localhost/a:1"),
            ("localhost:5000/a:1", "localhost:5000/a:1"),
        ] {
            assert_eq!(full_name(short), full);
        }
    }
}
