use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::error::{kind_of, one_line, remedies_of};

/// A small bundle that is in order.
fn good() -> (tempfile::TempDir, Value) {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    let contents = [
        ("tools/minikube", "#!/bin/sh\n"),
        ("kubernetes/v1.35.4/kubeadm", "kubeadm"),
        ("kubernetes/v1.35.4/kubectl", "kubectl"),
        ("kubernetes/v1.35.4/kubelet", "kubelet"),
        ("preload/p.tar.lz4", "images"),
        ("manifests/cnpg.yaml", "kind: List"),
    ];
    for (path, text) in contents {
        let place = dir.path().join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, text).unwrap();
        files.push(json!({"path": path, "sha256": sha256_file(&place).unwrap(), "size": text.len()}));
    }
    let index = json!({
        "schema": 1, "platform": platform(), "kubernetes": "v1.35.4",
        "components": [{"name": "cnpg-operator", "version": "1.30.0", "image": "x/y:1", "manifest": "manifests/cnpg.yaml"}],
        "files": files,
        "web_image": null,
        "preload": "preload/p.tar.lz4",
        "kubernetes_binaries": "kubernetes/v1.35.4",
    });
    write(&dir, &index);
    (dir, index)
}

fn write(dir: &tempfile::TempDir, index: &Value) {
    fs::write(dir.path().join("bundle.json"), index.to_string()).unwrap();
}

fn refused(dir: &tempfile::TempDir, index: &Value) -> anyhow::Error {
    write(dir, index);
    Bundle::open(dir.path()).unwrap_err()
}

#[test]
fn a_good_bundle_opens_and_installs_and_installing_again_replaces_nothing() {
    let (dir, _) = good();
    let bundle = Bundle::open(dir.path()).unwrap();
    assert_eq!(bundle.image("cnpg-operator").unwrap(), "x/y:1");
    assert!(one_line(&bundle.image("grafana").unwrap_err()).contains("no image of grafana"));
    let home = tempfile::tempdir().unwrap();
    assert!(bundle.install_into_minikube_home(home.path()).unwrap().is_empty());
    let platform = platform();
    for (path, text) in [
        (format!("cache/{platform}/v1.35.4/kubelet"), "kubelet"),
        ("cache/preloaded-tarball/p.tar.lz4".into(), "images"),
    ] {
        assert_eq!(fs::read_to_string(home.path().join(&path)).unwrap(), text, "{path}");
    }
    assert!(bundle.install_into_minikube_home(home.path()).unwrap().is_empty());
    let other = home.path().join(format!("cache/{platform}/v1.35.4/kubectl"));
    fs::remove_file(&other).unwrap();
    fs::write(&other, "another").unwrap();
    assert_eq!(bundle.install_into_minikube_home(home.path()).unwrap(), std::slice::from_ref(&other));
    assert_eq!(fs::read_to_string(other).unwrap(), "kubectl");
}

#[test]
fn a_changed_file_is_named_with_both_sums_and_is_not_installed() {
    let (dir, _) = good();
    // Same length: only the sum can tell.
    fs::write(dir.path().join("kubernetes/v1.35.4/kubelet"), "kubeleT").unwrap();
    let bundle = Bundle::open(dir.path()).unwrap();
    let home = tempfile::tempdir().unwrap();
    let error = bundle.install_into_minikube_home(home.path()).unwrap_err();
    let text = one_line(&error);
    assert!(text.contains("kubelet was changed: its sha256 is ") && text.contains(" is expected"), "{text}");
    assert_eq!(kind_of(&error).exit_code(), 1);
    assert_eq!(remedies_of(&error), [MAKE_ONE]);
    assert!(!home.path().join(format!("cache/{}/v1.35.4/kubelet", platform())).exists());
}

#[test]
fn a_truncated_or_absent_file_and_a_link_are_refused() {
    let (dir, _) = good();
    let bundle = Bundle::open(dir.path()).unwrap();
    let path = dir.path().join("tools/minikube");
    fs::write(&path, "#!").unwrap();
    assert!(one_line(&bundle.minikube().unwrap_err()).contains("has 2 bytes, 10 are expected"));
    fs::remove_file(&path).unwrap();
    assert!(one_line(&bundle.minikube().unwrap_err()).contains("tools/minikube: No such file"));
    std::os::unix::fs::symlink("/bin/sh", &path).unwrap();
    assert!(one_line(&bundle.minikube().unwrap_err()).contains("not a regular file"));
}

#[test]
fn paths_that_leave_the_folder_are_refused() {
    for path in ["../evil", "/etc/passwd", "a/../../b", "", ".", "a\\b"] {
        let (dir, mut index) = good();
        index["files"][0]["path"] = json!(path);
        let text = one_line(&refused(&dir, &index));
        assert!(text.contains("leaves the bundle's folder"), "{path}: {text}");
    }
    let (dir, mut index) = good();
    index["preload"] = json!("../preload");
    assert!(one_line(&refused(&dir, &index)).contains("leaves the bundle's folder"));
    index["preload"] = json!("not/listed");
    assert!(one_line(&refused(&dir, &index)).contains("not in its list of files"));
}

#[test]
fn another_schema_or_platform_or_no_bundle_at_all_is_refused() {
    let (dir, mut index) = good();
    index["schema"] = json!(2);
    assert!(one_line(&refused(&dir, &index)).contains("schema 2, this stackctl reads schema 1"));
    index["schema"] = json!(1);
    index["platform"] = json!("plan9/mips");
    let error = refused(&dir, &index);
    assert!(one_line(&error).contains("is for plan9/mips, this machine is"));
    assert_eq!(kind_of(&error).exit_code(), 3);
    fs::write(dir.path().join("bundle.json"), "{\"schema\": 1,").unwrap();
    let error = Bundle::open(dir.path()).unwrap_err();
    assert!(one_line(&error).contains("bundle.json is not valid"), "{error:#}");
    let empty = tempfile::tempdir().unwrap();
    let error = Bundle::open(empty.path()).unwrap_err();
    assert_eq!(kind_of(&error).exit_code(), 3);
    assert!(one_line(&error).contains("no bundle.json"));
}

#[test]
fn a_sum_that_is_none_and_a_file_listed_twice_are_refused() {
    let (dir, mut index) = good();
    index["files"][1] = index["files"][0].clone();
    assert!(one_line(&refused(&dir, &index)).contains("listed twice"));
    let (dir, mut index) = good();
    index["files"][0]["sha256"] = json!("abc");
    assert!(one_line(&refused(&dir, &index)).contains("is not one"));
}

#[test]
fn an_image_that_was_built_from_another_context_is_not_taken() {
    let (dir, mut index) = good();
    let path = index["files"][0]["path"].clone();
    index["web_image"] = json!({"path": path, "image": "user-app:1"});
    index["sidecar_image"] = json!({"path": path, "image": "sidecar:1"});
    write(&dir, &index);
    let bundle = Bundle::open(dir.path()).unwrap();
    assert!(bundle.built_image("user-app:1").is_some() && bundle.built_image("sidecar:1").is_some());
    assert!(bundle.built_image("user-app:2").is_none() && bundle.built_image("sidecar:2").is_none());
    index["sidecar_image"]["path"] = json!("images/none.tar");
    assert!(one_line(&refused(&dir, &index)).contains("images/none.tar"));
}

#[test]
fn images_for_a_registry_are_told_and_a_bundle_without_any_says_so() {
    let (dir, mut index) = good();
    let without = Bundle::open(dir.path()).unwrap();
    let error = without.stack_images().unwrap_err();
    assert!(one_line(&error).contains("for minikube's nodes only"), "{error:#}");
    assert_eq!(remedies_of(&error), [MAKE_ONE]);
    // Any file of the list will do.
    index["stack_images"] = json!([{"path": "preload/p.tar.lz4", "image": "x/y:1"}]);
    index["web_image"] = json!({"path": "preload/p.tar.lz4", "image": "user-app:1"});
    write(&dir, &index);
    let bundle = Bundle::open(dir.path()).unwrap();
    assert_eq!(bundle.stack_images().unwrap()[0].image, "x/y:1");
    assert_eq!(bundle.built_images().map(|file| file.image.as_str()).collect::<Vec<_>>(), ["user-app:1"]);
    index["stack_images"][0]["path"] = json!("images/none.tar.gz");
    assert!(one_line(&refused(&dir, &index)).contains("images/none.tar.gz"));
}
