//! Images from a mirror, and the Secret by which pods may pull them.

use crate::{
    api_server::{NO_KINDS, api_server, kubeconfig, not_found},
    sandbox::Sandbox,
    snapshot,
};

const MIRROR: &str = "mirror.example.com:5000/all";

/// The parts whose manifests are all in the program.
const PARTS: [&str; 10] = [
    "--part",
    "database",
    "--part",
    "failover-helper",
    "--part",
    "autoscaling",
    "--part",
    "web",
    "--part",
    "monitoring",
];

/// The images that the rendered manifests name.
fn images(rendered: &str) -> Vec<&str> {
    let values = rendered.lines().filter_map(|line| {
        let line = line.trim().trim_start_matches("- ");
        line.strip_prefix("image: ").or_else(|| line.strip_prefix("imageName: "))
    });
    values.map(|value| value.trim_matches(['"', '\''])).collect()
}

#[test]
fn every_image_of_upstreams_comes_from_the_mirror_by_flag_variable_and_file() {
    let sandbox = Sandbox::bare();
    let pushed = ["--context", "prod", "--registry", "registry.example.com/team"];
    let plain = sandbox.run(&[&["render"], &PARTS[..], &pushed[..]].concat());
    let has = |found: &[&str], beginning: &str| found.iter().any(|image| image.starts_with(beginning));
    assert!(has(&images(&plain), "quay.io/prometheus/prometheus:v"), "{:?}", images(&plain));
    for image in images(&plain) {
        assert!(image.starts_with("registry.example.com/team/") || image.contains("@sha256:"), "{image} is not pinned");
    }

    let flag = sandbox.run(&[&["render"], &PARTS[..], &pushed[..], &["--image-mirror", MIRROR]].concat());
    let found = images(&flag);
    assert_eq!(found.len(), images(&plain).len());
    for image in &found {
        let own = image.starts_with("registry.example.com/team/user-app:");
        assert!(own || image.starts_with("mirror.example.com:5000/all/"), "{image}");
    }
    for image in ["prometheus/prometheus:v", "cloudnative-pg/postgresql:"] {
        assert!(has(&found, &format!("{MIRROR}/{image}")), "{found:?}");
    }

    let mut command = sandbox.command(&[&["render"], &PARTS[..], &pushed[..]].concat());
    assert_eq!(sandbox.shown(&command.env("STACKCTL_IMAGE_MIRROR", MIRROR).output().unwrap()), flag, "variable");
    sandbox.write("home/.config/stackctl/config.toml", &format!("image-mirror = \"{MIRROR}\"\n"));
    assert_eq!(sandbox.run(&[&["render"], &PARTS[..], &pushed[..]].concat()), flag, "file");
}

#[test]
fn without_a_registry_to_push_to_the_mirror_has_the_programs_own_images_too() {
    let sandbox = Sandbox::bare();
    let text = sandbox.run(&["render", "--part", "web", "--context", "prod", "--image-mirror", MIRROR]);
    let found = images(&text);
    assert!(!found.is_empty(), "{text}");
    assert!(found.iter().all(|image| image.starts_with("mirror.example.com:5000/all/user-app:")), "{found:?}");
}

#[test]
fn every_pod_names_the_pull_secret() {
    let sandbox = Sandbox::bare();
    let text = sandbox.run(&[&["render"], &PARTS[..], &["--pull-secret", "mine"]].concat());
    let documents: Vec<&str> = text.split("\n---").collect();
    let with_pods = |text: &&&str| text.contains("image: ") || text.contains("imageName: ");
    assert!(documents.iter().filter(with_pods).count() >= 6, "{}", documents.len());
    for document in documents.iter().filter(with_pods) {
        assert!(document.contains("imagePullSecrets:"), "{document}");
    }
}

#[test]
fn names_that_are_none_are_refused_before_anything_is_asked() {
    let sandbox = Sandbox::with_docker();
    for (flag, value) in [
        ("--image-mirror", "https://mirror.example.com/all"),
        ("--image-mirror", "mirror.example.com/All"),
        ("--image-mirror", "mirror.example.com/a,mirror.example.com/b"),
        ("--pull-secret", "My_Secret"),
    ] {
        let said = sandbox.run(&["up", "--quiet", "--context", "prod", flag, value]);
        assert!(said.starts_with("exit code 2") && said.contains(flag) && said.contains(value), "{said}");
    }
    assert!(sandbox.calls().is_empty());
}

#[test]
fn a_mirror_beside_a_bundle_is_refused_where_the_bundle_has_every_image() {
    let sandbox = Sandbox::with_docker();
    let refused = sandbox.run(&["up", "--quiet", "--bundle", "somewhere", "--image-mirror", MIRROR]);
    assert!(refused.starts_with("exit code 2") && refused.contains("has no use beside the bundle"), "{refused}");
    let context = ["up", "--quiet", "--context", "prod", "--bundle", "somewhere", "--image-mirror"];
    let single = sandbox.run(&[&context[..], &["ghcr.io=mirror.example.com/ghcr"]].concat());
    assert!(single.starts_with("exit code 2") && single.contains("bundle push has put them"), "{single}");
    assert!(sandbox.calls().is_empty());
}

#[test]
fn a_pull_secret_that_is_not_there_is_told_before_anything_is_changed() {
    let sandbox = Sandbox::bare();
    let (server, requests) = api_server(|request| {
        let text = match request.split_whitespace().nth(1).unwrap_or_default() {
            "/version" => r#"{"major":"1","minor":"35","gitVersion":"v1.35.4","gitCommit":"","gitTreeState":"","buildDate":"","goVersion":"","compiler":"","platform":""}"#.into(),
            path if path.contains("/secrets/mine") => return not_found("secrets \"mine\""),
            path if path.ends_with("/namespaces/user-app") => return not_found("namespaces \"user-app\""),
            path if path.contains("selfsubjectaccessreviews") => r#"{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","metadata":{},"spec":{},"status":{"allowed":true}}"#.into(),
            path if path.contains("storageclasses") => r#"{"kind":"StorageClassList","apiVersion":"storage.k8s.io/v1","metadata":{},"items":[{"metadata":{"name":"standard","annotations":{"storageclass.kubernetes.io/is-default-class":"true"}},"provisioner":"x"}]}"#.into(),
            path if path.contains("validatingwebhook") => r#"{"kind":"ValidatingWebhookConfigurationList","apiVersion":"v1","metadata":{},"items":[]}"#.into(),
            path if path.contains("mutatingwebhook") => r#"{"kind":"MutatingWebhookConfigurationList","apiVersion":"v1","metadata":{},"items":[]}"#.into(),
            path if path.contains("deployments") => r#"{"kind":"DeploymentList","apiVersion":"apps/v1","metadata":{},"items":[]}"#.into(),
            _ => NO_KINDS.into(),
        };
        (200, text)
    });
    kubeconfig(&sandbox, &server);
    // No engine is needed where nothing is built.
    snapshot!(sandbox.run(&["up", "--quiet", "--context", "prod", "--image-mirror", MIRROR, "--pull-secret", "mine"]), @r#"
    exit code 1
    -- stderr
    [preflight] Preflight checks: FAILED after [TIME]
    error: Preflight checks failed: Secret user-app/mine, which --pull-secret names, is not there
      try: kubectl --context prod create namespace user-app
      try: kubectl --context prod -n user-app create secret generic mine --type=kubernetes.io/dockerconfigjson --from-file=.dockerconfigjson=$HOME/.docker/config.json
    "#);
    for request in requests.lock().unwrap().iter() {
        assert!(request.starts_with("GET ") || request.contains("selfsubjectaccessreviews"), "{request}");
    }
}
