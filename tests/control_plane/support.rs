use std::process::Command;

use serde_json::json;
use stackctl::kube::Inventory;

use crate::harness::{control_plane, create, options, sandbox};

#[tokio::test]
async fn an_archive_for_others_holds_states_and_no_planted_secret() {
    let sandbox = sandbox("support").await;
    let namespace = &sandbox.namespace;
    let secret = sandbox.object("v1", "Secret", "login", json!({"stringData": {"password": "planted-hunter2"}}));
    create(&sandbox.kube, serde_json::to_value(secret).unwrap()).await;
    let text = "planted-hunter2 of ada@planted.example, kept-text, postgres://u:planted-too@db/app";
    let map = sandbox.config_map("app", text);
    let inventory = Inventory::load(&sandbox.kube, namespace).await.unwrap();
    inventory.apply("web", &[map], options(), &|_| {}, &|_| {}).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = control_plane().kubeconfig("admin-token", |_| {});
    let run = |file: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stackctl"));
        command.args(["--context", "test", "--namespace", namespace, "support", file]);
        command.current_dir(folder.path()).env("KUBECONFIG", &kubeconfig).env("HOME", folder.path());
        command.output().unwrap()
    };
    let output = run("report.tar");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "report.tar\n");

    let mut files = std::collections::BTreeMap::new();
    let mut archive = tar::Archive::new(std::fs::File::open(folder.path().join("report.tar")).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
        files.insert(name.split_once('/').unwrap().1.to_owned(), text);
    }
    for planted in ["planted-hunter2", "cGxhbnRlZC1odW50ZXIy", "ada@planted.example", "planted-too", "admin-token"] {
        let found: Vec<_> = files.iter().filter(|(_, text)| text.contains(planted)).map(|(name, _)| name).collect();
        assert!(found.is_empty(), "{planted} is in {found:?}");
    }
    let object = &files[&format!("objects/web/{namespace}/ConfigMap-app.json")];
    assert!(object.contains("kept-text") && object.contains("(secret)") && object.contains("(address)"), "{object}");
    for name in ["about.json", "configuration.json", "doctor.json", "status.json", "inventory.json"] {
        assert!(files.contains_key(name), "{name} in {:?}", files.keys());
    }
    let again = run("report.tar");
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!again.status.success() && said.contains("is there already"), "{said}");
}
