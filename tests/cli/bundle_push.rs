//! A bundle's images on their way to a registry.

use sha2::{Digest, Sha256};

use crate::{sandbox::Sandbox, snapshot};

/// An engine that has one of the images already, and takes all of them.
const DOCKER: &str = r#"
case "$1 $2" in
  "info --format") echo "$ENGINE" ;;
  "image inspect")
    case "$3" in
      ghcr.io/versity/versitygw:v1.8.0) echo '[{"Config":{},"RootFS":{"Layers":["sha256:1"]}}]' ;;
      *) echo "Error: No such image: $3" >&2; exit 1 ;;
    esac ;;
  "load ") while read -r line; do :; done ;;
  "tag "* | "image rm") ;;
  "push "*) [ ! -e "$HOME/denied" ] || { echo "denied: requested access to the resource is denied" >&2; exit 1; } ;;
  *) echo "unexpected: docker $*" >&2; exit 64 ;;
esac"#;

/// A bundle with three images of upstream's in one file, and the web app's; returns its path.
fn bundle(sandbox: &Sandbox, with_images: bool) -> String {
    let mut files = Vec::new();
    for path in ["images/stack.tar.gz", "images/user-app.tar"] {
        sandbox.write(&format!("bundle/{path}"), path);
        let sum: String = Sha256::digest(path).iter().map(|byte| format!("{byte:02x}")).collect();
        files.push(format!(r#"{{"path":"{path}","sha256":"{sum}","size":{}}}"#, path.len()));
    }
    let names = [
        "ghcr.io/versity/versitygw:v1.8.0",
        "registry.k8s.io/metrics-server/metrics-server:v0.9.0",
        "stackctl.local/postgresql:17.12-ab",
    ];
    let images = names.map(|name| format!(r#"{{"path":"images/stack.tar.gz","image":"{name}"}}"#));
    let images = if with_images { format!(r#""stack_images":[{}],"#, images.join(",")) } else { String::new() };
    let platform = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    sandbox.write(
        "bundle/bundle.json",
        &format!(
            r#"{{"schema":1,"platform":"{platform}","kubernetes":"v1.35.4","files":[{}],{images}
            "web_image":{{"path":"images/user-app.tar","image":"user-app:0123456789ab"}}}}"#,
            files.join(",")
        ),
    );
    sandbox.path().join("bundle").display().to_string()
}

#[test]
fn every_image_is_pushed_by_the_name_that_up_asks_for_and_the_engine_is_left_as_it_was() {
    let sandbox = Sandbox::bare().fake("docker", DOCKER);
    let bundle = bundle(&sandbox, true);
    let said = sandbox.run(&["bundle", "push", "--bundle", &bundle, "--registry", "r.example.com:5000/all/"]);
    assert!(said.starts_with("exit code 0"), "{said}");
    assert!(said.contains("up --context NAME --bundle [DIR]/bundle --image-mirror r.example.com:5000/all"), "{said}");
    let calls = sandbox.calls();
    let of =
        |verb: &str| calls.iter().filter_map(|call| call.strip_prefix(verb)).map(str::to_owned).collect::<Vec<_>>();
    let places = [
        "r.example.com:5000/all/versity/versitygw:v1.8.0",
        "r.example.com:5000/all/metrics-server/metrics-server:v0.9.0",
        "r.example.com:5000/all/postgresql:17.12-ab",
        "r.example.com:5000/all/user-app:0123456789ab",
    ];
    assert_eq!(of("docker push "), places);
    assert_eq!(of("docker tag ")[2], "stackctl.local/postgresql:17.12-ab r.example.com:5000/all/postgresql:17.12-ab");
    assert_eq!(of("docker load").len(), 2, "each file once: {calls:?}");
    let removed = &of("docker image rm ")[0];
    assert!(places.iter().all(|place| removed.contains(place)), "{removed}");
    let kept = |name: &str| !removed.split(' ').any(|removed| removed == name);
    assert!(kept("ghcr.io/versity/versitygw:v1.8.0") && !kept("user-app:0123456789ab"), "{removed}");

    // The names are those of the manifests of an up from there.
    let up = ["render", "--context", "prod", "--bundle", &bundle, "--image-mirror", "r.example.com:5000/all"];
    let web = sandbox.run(&[&up[..], &["--part", "autoscaling"]].concat());
    assert!(web.contains("r.example.com:5000/all/metrics-server/metrics-server:v0.9.0"), "{web}");
}

#[test]
fn a_registry_that_refuses_is_told_and_what_was_loaded_is_taken_away_again() {
    let sandbox = Sandbox::bare().fake("docker", DOCKER);
    let bundle = bundle(&sandbox, true);
    sandbox.write("home/denied", "");
    let said = sandbox.run(&["bundle", "push", "--quiet", "--bundle", &bundle, "--registry", "r.example.com/all"]);
    snapshot!(said, @r#"
    exit code 1
    -- stderr
    [push] Images of the bundle to r.example.com/all: FAILED after [TIME]
    error: cannot push r.example.com/all/versity/versitygw:v1.8.0: denied: requested access to the resource is denied
      try: docker login r.example.com
    "#);
    assert!(sandbox.calls().last().unwrap().starts_with("docker image rm "), "{:?}", sandbox.calls());
}

#[test]
fn what_cannot_be_pushed_is_told_before_the_engine_is_asked() {
    let sandbox = Sandbox::bare().fake("docker", DOCKER);
    let before = bundle(&sandbox, false);
    let push = |registry: &str, bundle: &[&str]| {
        sandbox.run(&[&["bundle", "push", "--quiet", "--registry", registry], bundle].concat())
    };
    let name = push("https://r.example.com", &["--bundle", &before]);
    assert!(name.starts_with("exit code 2") && name.contains("it has no scheme"), "{name}");
    let none = push("r.example.com", &[]);
    assert!(none.starts_with("exit code 2") && none.contains("--bundle DIR"), "{none}");
    let old = push("r.example.com", &["--bundle", &before]);
    assert!(old.starts_with("exit code 1") && old.contains("for minikube's nodes only"), "{old}");
    assert!(sandbox.calls().is_empty(), "{:?}", sandbox.calls());
    let broken = bundle(&sandbox, true);
    sandbox.write("bundle/images/stack.tar.gz", "images/stack.tar.gx");
    let broken = push("r.example.com", &["--bundle", &broken]);
    assert!(broken.contains("images/stack.tar.gz was changed"), "{broken}");
    assert!(!sandbox.calls().iter().any(|call| call.starts_with("docker load")), "{:?}", sandbox.calls());
}
