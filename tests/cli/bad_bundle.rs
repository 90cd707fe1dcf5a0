//! Bundles that are broken, tampered with or for another machine, and disks that are full.

use std::{fs, path::Path, process::Command};

use sha2::{Digest, Sha256};

use crate::{
    sandbox::{DOCKER, Sandbox},
    snapshot,
};

const MINIKUBE: &str = "#!/bin/sh\necho '{\"minikubeVersion\":\"v1.38.1\"}'\n";

/// A bundle whose minikube only tells its version; `change` edits its index.
fn bundle(sandbox: &Sandbox, change: impl Fn(String) -> String) {
    use std::os::unix::fs::PermissionsExt;
    let minikube = sandbox.write("bundle/tools/minikube", MINIKUBE);
    fs::set_permissions(minikube, fs::Permissions::from_mode(0o755)).unwrap();
    // Larger than the disk of the test that fills one.
    let preload = "x".repeat(3 << 20);
    sandbox.write("bundle/preload/p.tar.lz4", &preload);
    let file = |path: &str, text: &str| {
        let sum: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        format!(r#"{{"path":"{path}","sha256":"{sum}","size":{}}}"#, text.len())
    };
    let platform = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    let index = format!(
        r#"{{"schema":1,"platform":"{platform}","kubernetes":"v1.35.4",
        "components":[{{"name":"kicbase","image":"stackctl.local/kicbase:1"}}],
        "files":[{},{}],"preload":"preload/p.tar.lz4"}}"#,
        file("tools/minikube", MINIKUBE),
        file("preload/p.tar.lz4", &preload)
    );
    sandbox.write("bundle/bundle.json", &change(index));
}

fn up(sandbox: &Sandbox) -> String {
    sandbox.run(&["up", "--quiet", "--bundle", &sandbox.path().join("bundle").to_string_lossy()])
}

#[test]
fn no_bundle_there() {
    let sandbox = Sandbox::with_docker();
    snapshot!(up(&sandbox), @r#"
    exit code 3
    -- stderr
    error: no bundle in [DIR]/bundle: it has no bundle.json
      try: make one: cargo xtask bundle
    "#);
}

#[test]
fn an_index_that_is_cut_short() {
    let sandbox = Sandbox::with_docker();
    bundle(&sandbox, |index| index[..index.len() / 2].to_owned());
    snapshot!(up(&sandbox), @r#"
    exit code 1
    -- stderr
    error: the bundle [DIR]/bundle is broken: bundle.json is not valid: EOF while parsing a string at line 3 column 70
      try: make it anew: cargo xtask bundle
    "#);
}

#[test]
fn a_path_that_leaves_the_folder() {
    let sandbox = Sandbox::with_docker();
    bundle(&sandbox, |index| index.replace("tools/minikube", "../../bin/minikube"));
    snapshot!(up(&sandbox), @r#"
    exit code 1
    -- stderr
    error: the bundle [DIR]/bundle is broken: the path "../../bin/minikube" leaves the bundle's folder
      try: make it anew: cargo xtask bundle
    "#);
}

#[test]
fn a_bundle_for_another_platform() {
    let sandbox = Sandbox::with_docker();
    bundle(&sandbox, |index| index.replace("linux/", "darwin/"));
    snapshot!(up(&sandbox).replace("arm64", "amd64"), @r#"
    exit code 3
    -- stderr
    error: the bundle [DIR]/bundle is for darwin/amd64, this machine is linux/amd64
      try: make a bundle on a machine of this platform: cargo xtask bundle
    "#);
}

#[test]
fn a_tampered_minikube_is_not_run() {
    let sandbox = Sandbox::with_docker();
    bundle(&sandbox, |index| index);
    let path = sandbox.path().join("bundle/tools/minikube");
    // The same length: only the sum can tell.
    let evil = MINIKUBE.replace("v1.38.1", "v1.99.1");
    fs::write(path, evil).unwrap();
    snapshot!(up(&sandbox), @r#"
    exit code 1
    -- stderr
    [preflight] Preflight checks: FAILED after [TIME]
    error: Preflight checks failed: the bundle [DIR]/bundle is broken: tools/minikube was changed: its sha256 is [ACTUAL], [EXPECTED] is expected
      try: make it anew: cargo xtask bundle
    "#);
}

#[test]
fn tampered_images_are_not_installed() {
    let sandbox = Sandbox::with_docker();
    bundle(&sandbox, |index| index);
    let path = sandbox.path().join("bundle/preload/p.tar.lz4");
    let mut bytes = fs::read(&path).unwrap();
    bytes[12345] ^= 1;
    fs::write(&path, bytes).unwrap();
    snapshot!(up(&sandbox), @r#"
    exit code 1
    -- stderr
    [cluster] Kubernetes cluster: FAILED after [TIME]
    error: Kubernetes cluster failed: the bundle [DIR]/bundle is broken: preload/p.tar.lz4 was changed: its sha256 is [ACTUAL], [EXPECTED] is expected
      try: make it anew: cargo xtask bundle
    "#);
    assert!(!files_below(&sandbox.home()).iter().any(|path| path.contains("preloaded-tarball/")));
}

/// Runs `up` with minikube's folder on a disk of 1 MiB, in a mount namespace that ends with the command;
/// what it shows, and the files that are left there.
fn up_on_a_full_disk(sandbox: &Sandbox) -> (String, String) {
    bundle(sandbox, |index| index);
    let home = sandbox.home().join(".minikube");
    fs::create_dir(&home).unwrap();
    let list = sandbox.path().join("list");
    let script = format!(
        "mount -t tmpfs -o size=1m tmpfs '{home}' && '{stackctl}' up --quiet --bundle '{bundle}'; code=$?; \
         find '{home}' -type f > '{list}'; exit $code",
        home = home.display(),
        stackctl = env!("CARGO_BIN_EXE_stackctl"),
        bundle = sandbox.path().join("bundle").display(),
        list = list.display(),
    );
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", sandbox.path().join("bin").display());
    let output = Command::new("/usr/bin/unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", &script])
        .env_clear()
        .env("PATH", path)
        .env("HOME", sandbox.home())
        .output()
        .unwrap();
    (sandbox.shown(&output), fs::read_to_string(list).unwrap())
}

#[test]
fn a_full_disk_stops_before_anything_is_written() {
    let (shown, left) = up_on_a_full_disk(&Sandbox::with_docker());
    snapshot!(shown, @r#"
    exit code 3
    -- stderr
    [preflight] Preflight checks: FAILED after [TIME]
    error: Preflight checks failed: [SIZE] free for [DIR]/home/.minikube, [SIZE] are needed
      try: free some: docker system df shows what Docker uses, docker system prune removes what is unused
    "#);
    assert_eq!(left, "");
}

#[test]
fn a_disk_that_fills_up_is_named_and_keeps_no_part_of_a_file() {
    // The engine's disk is another one, so that only the writing can tell.
    let docker = DOCKER.replace(
        r#"echo "$ENGINE""#,
        r#"echo '{"ServerVersion":"27.0.1","NCPU":4,"MemTotal":17179869184,"DockerRootDir":"/"}'"#,
    );
    let (shown, left) = up_on_a_full_disk(&Sandbox::bare().fake("docker", &docker));
    snapshot!(shown, @r#"
    exit code 1
    -- stderr
    [cluster] Kubernetes cluster: FAILED after [TIME]
    error: Kubernetes cluster failed: cannot write [DIR]/home/.minikube/cache/preloaded-tarball/.stackctl-[PID].part: No space left on device (os error 28)
      try: free space on the disk of [DIR]/home/.minikube/cache/preloaded-tarball (df -h shows it), then run the same command again
    "#);
    assert!(!left.contains("preload"), "{left}");
}

#[test]
fn a_bundle_of_another_schema() {
    let sandbox = Sandbox::with_docker();
    bundle(&sandbox, |index| index.replace(r#""schema":1"#, r#""schema":2"#));
    snapshot!(up(&sandbox), @r#"
    exit code 1
    -- stderr
    error: the bundle [DIR]/bundle has schema 2, this stackctl reads schema 1
      try: use a bundle and a stackctl of the same release
    "#);
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path().display().to_string());
            }
        }
    }
    found
}
