//! Where upstream's images are taken from instead of their own registries.
//!
//! The name of an upstream image is `HOST/PATH:TAG@DIGEST`. A mirror keeps path, tag and digest and takes the host's place,
//! as Helm charts' `global.imageRegistry`, `oc mirror` and containerd's registry mirrors have it:
//! `ghcr.io/cloudnative-pg/postgresql:18.4` comes from `REGISTRY/PREFIX/cloudnative-pg/postgresql:18.4`. The host is no part
//! of the path, as caches of one upstream (Harbor's proxy projects, ECR's pull-through rules) have a place for each host:
//! those are named one by one, `ghcr.io=REGISTRY/ghcr,quay.io=REGISTRY/quay`.

use std::{collections::BTreeMap, fmt};

use super::names::{is_host, parse_registry};
use crate::error::{Result, usage};

/// The option's name on the command line.
pub const FLAG: &str = "--image-mirror";
/// The registry of images whose names tell none.
const DOCKER_HUB: &str = "docker.io";
/// Where Docker Hub has images whose names have one part only.
const OFFICIAL: &str = "library";

/// The places that upstream's images are taken from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageMirror {
    /// For images of every host that has no place of its own.
    every: Option<String>,
    by_host: BTreeMap<String, String>,
}

impl ImageMirror {
    /// Reads `REGISTRY/PREFIX` and `HOST=REGISTRY/PREFIX`, with commas between them.
    ///
    /// # Errors
    /// What no image's name can begin with, a host that is none, or one that is named twice (exit code 2).
    pub fn parse(text: &str) -> Result<ImageMirror> {
        let mut mirror = ImageMirror::default();
        let refuse = |what: String| {
            usage(format!("{FLAG} {text:?} {what}"))
                .remedy("write it like registry.example.com/mirror, or ghcr.io=registry.example.com/ghcr,quay.io=…")
        };
        for entry in text.split(',').map(str::trim) {
            let (host, place) = match entry.split_once('=') {
                Some((host, place)) => (Some(host.trim()), place),
                None => (None, entry),
            };
            let place = parse_registry(FLAG, place)?;
            let before = match host {
                None => mirror.every.replace(place),
                Some(host) if is_host(host) => mirror.by_host.insert(canonical(host).to_owned(), place),
                Some(host) => return Err(refuse(format!("names {host:?}, which is no registry's host")).into()),
            };
            if before.is_some() {
                let whose = host.map_or("every host".to_owned(), |host| format!("{host:?}"));
                return Err(refuse(format!("names two places for {whose}")).into());
            }
        }
        Ok(mirror)
    }

    /// The one at which every image is, whatever host it is from.
    pub fn at(place: &str) -> ImageMirror {
        ImageMirror { every: Some(place.to_owned()), ..ImageMirror::default() }
    }

    /// The place of images of every host that has none of its own, and of images that have no upstream.
    pub fn every(&self) -> Option<&str> {
        self.every.as_deref()
    }

    /// The name by which the image `image` of upstream's is to be had: its own where its host has no place.
    pub fn place(&self, image: &str) -> String {
        let (host, path) = split(image);
        match self.by_host.get(host).or(self.every.as_ref()) {
            Some(place) if host == DOCKER_HUB && !path.contains('/') => format!("{place}/{OFFICIAL}/{path}"),
            Some(place) => format!("{place}/{path}"),
            None => image.to_owned(),
        }
    }
}

impl fmt::Display for ImageMirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by_host = self.by_host.iter().map(|(host, place)| format!("{host}={place}"));
        let all: Vec<String> = self.every.iter().cloned().chain(by_host).collect();
        f.write_str(&all.join(","))
    }
}

/// The registry of an image and the rest of its name. As for `docker pull`, what stands before the first slash is a registry
/// only if it has a dot or a port, or is `localhost`.
fn split(image: &str) -> (&str, &str) {
    match image.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (canonical(host), path),
        _ => (DOCKER_HUB, image),
    }
}

fn canonical(host: &str) -> &str {
    if host == "index.docker.io" { DOCKER_HUB } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::kind_of;

    #[test]
    fn a_mirror_takes_the_hosts_place_and_keeps_path_tag_and_digest() {
        let mirror = ImageMirror::parse("r.example.com:5000/mirror/").unwrap();
        for (image, place) in [
            ("ghcr.io/cloudnative-pg/cloudnative-pg:1.30.0", "cloudnative-pg/cloudnative-pg:1.30.0"),
            ("quay.io/prometheus/prometheus:v3@sha256:ab", "prometheus/prometheus:v3@sha256:ab"),
            ("docker.io/grafana/grafana:12.2.1", "grafana/grafana:12.2.1"),
            ("rancher/local-path-provisioner:v0.0.30", "rancher/local-path-provisioner:v0.0.30"),
            ("busybox:stable", "library/busybox:stable"),
            ("index.docker.io/busybox", "library/busybox"),
            ("localhost:5000/a:1", "a:1"),
            ("stackctl.local/postgresql:17.12-ab", "postgresql:17.12-ab"),
        ] {
            assert_eq!(mirror.place(image), format!("r.example.com:5000/mirror/{place}"));
        }
    }

    #[test]
    fn a_host_can_have_a_place_of_its_own() {
        let mirror = ImageMirror::parse("ghcr.io=r.example.com/ghcr, docker.io=r.example.com/hub").unwrap();
        assert_eq!(mirror.place("ghcr.io/versity/versitygw:v1"), "r.example.com/ghcr/versity/versitygw:v1");
        assert_eq!(mirror.place("busybox"), "r.example.com/hub/library/busybox");
        assert_eq!(mirror.place("quay.io/prometheus/prometheus:v3"), "quay.io/prometheus/prometheus:v3", "no place");
        assert_eq!(
            (mirror.every(), mirror.to_string().as_str()),
            (None, "docker.io=r.example.com/hub,ghcr.io=r.example.com/ghcr")
        );
        let both = ImageMirror::parse("r.example.com/all,quay.io=r.example.com/quay").unwrap();
        assert_eq!(both.place("quay.io/a/b:1"), "r.example.com/quay/a/b:1");
        assert_eq!(both.place("ghcr.io/a/b:1"), "r.example.com/all/a/b:1");
        assert_eq!(ImageMirror::parse(&both.to_string()).unwrap(), both);
    }

    #[test]
    fn what_is_no_mirror_is_refused() {
        for text in [
            "",
            ",",
            "https://r.example.com/x",
            "r.example.com/X",
            "a b=r/x",
            "=r/x",
            "ghcr.io=",
            "r/a,r/b",
            "q.io=r/a,q.io=r/b",
        ] {
            assert_eq!(kind_of(&ImageMirror::parse(text).unwrap_err()).exit_code(), 2, "{text}");
        }
    }
}
