//! What shells, scripts and other people's machines expect of a command line.

use std::{fs::OpenOptions, process::Stdio};

use serde_json::Value;

use crate::sandbox::Sandbox;

/// The target that `doctor` names.
fn target(sandbox: &Sandbox, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut all = vec!["doctor", "-o", "json"];
    all.extend(arguments);
    let output = sandbox.command(&all).envs(variables.iter().copied()).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["target"].as_str().unwrap().to_owned()
}

#[test]
fn a_profile_given_as_a_flag_beats_contexts_of_file_and_environment() {
    let sandbox = Sandbox::with_docker();
    sandbox.write("home/.config/stackctl/config.toml", "context = \"prod\"\n");
    assert_eq!(target(&sandbox, &[], &[]), "context prod");
    assert_eq!(target(&sandbox, &["--profile", "scratch"], &[]), "minikube profile scratch");
    assert_eq!(
        target(&sandbox, &["--profile", "scratch"], &[("STACKCTL_CONTEXT", "staging")]),
        "minikube profile scratch"
    );
    assert_eq!(target(&sandbox, &[], &[("STACKCTL_PROFILE", "scratch")]), "minikube profile scratch");
}

#[test]
fn an_empty_variable_is_not_set() {
    let sandbox = Sandbox::with_docker();
    for name in ["CONTEXT", "KUBECONFIG", "PROFILE", "NAMESPACE", "TIMEOUT", "LOG", "REGISTRY", "INSTANCES", "WITHOUT"]
    {
        let output =
            sandbox.command(&["render", "--part", "web"]).env(format!("STACKCTL_{name}"), "").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_stack_is_refused_where_it_would_harm() {
    let sandbox = Sandbox::bare();
    for namespace in ["kube-system", "monitoring", "cnpg-system"] {
        let shown = sandbox.run(&["render", "--part", "base", "-n", namespace]);
        assert!(shown.starts_with("exit code 2") && shown.contains(namespace), "{shown}");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Sandbox::bare().command(&["completions", "bash"]).stdout(Stdio::from(full)).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("could not be written"), "{output:?}");
}

#[test]
fn of_a_list_of_kubeconfigs_those_that_are_not_there_are_passed_over() {
    let sandbox = Sandbox::with_docker();
    let there = sandbox.write(
        "there",
        "apiVersion: v1\nkind: Config\nclusters: [{name: k, cluster: {server: 'http://127.0.0.1:1'}}]\n\
         contexts: [{name: c, context: {cluster: k}}]\n",
    );
    let gone = sandbox.path().join("gone");
    for list in [format!("{}:{}", gone.display(), there.display()), format!("{}::{}:", there.display(), gone.display())]
    {
        let output = sandbox.command(&["logs", "web", "--context", "c"]).env("KUBECONFIG", &list).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("http://127.0.0.1:1 is not running"), "{list}: {said}");
    }
    let gone = gone.display().to_string();
    let output = sandbox.command(&["logs", "web", "--context", "c"]).env("KUBECONFIG", &gone).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn podman_is_called_by_its_name() {
    let podman = r#"echo '{"host":{"remoteSocket":{"path":"/run/podman.sock"}},"store":{"graphRoot":"/x"}}'"#;
    let shown = Sandbox::bare().fake("docker", podman).run(&["doctor"]);
    assert!(shown.contains("Podman"), "{shown}");
}

#[test]
fn a_command_that_is_printed_acts_on_the_stack_that_it_was_printed_for() {
    let sandbox = Sandbox::with_docker();
    let output = sandbox.command(&["--profile", "scratch", "--namespace", "shop", "psql"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("stackctl --profile scratch --namespace shop up"), "{said}");
    let output = sandbox.command(&["psql"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("stackctl up"), "a plain one needs no flags: {said}");
}
