//! A user who administers one namespace of a cluster and may do nothing else, with images that come from a mirror.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::{
    cli::Stackctl,
    faults::Hand,
    suite::{Stack, tell},
};

const NAMESPACE: &str = "team";
/// The service account that stands for the user.
const USER: &str = "me";
/// A registry that is nowhere: the nodes have its images already.
const MIRROR: &str = "registry.test/mirror";
/// What the cluster's administrators apply for the stack; the cluster is to have no monitoring.
const THEIRS: [&str; 10] =
    ["render", "--scope", "cluster", "--part", "base", "--part", "operator", "--part", "backup", "--part"];

/// The administrators apply what is theirs; the user brings the stack up, drills it, backs it up and removes it, and nothing
/// of theirs is changed.
pub fn brings_a_stack_up(stack: &Stack) {
    let (admin, hand) = (&stack.stackctl, Hand::new(&stack.stackctl));
    mirror(admin);
    let at = ["--context", admin.profile(), "--namespace", NAMESPACE, "--image-mirror", MIRROR];
    let manifests = admin.on_context(None).ok(&[&at[..4], &THEIRS[..], &["autoscaling"], &at[4..]].concat()).stdout;
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig = folder.path().join("kubeconfig");

    // Without what is theirs the user is told who has to do what, and nothing is changed.
    hand.kubectl(&["create", "namespace", NAMESPACE]);
    hand.kubectl(&["--namespace", NAMESPACE, "create", "serviceaccount", USER]);
    let account = format!("{NAMESPACE}:{USER}");
    let bind = ["create", "rolebinding", "stackctl", "--clusterrole", "admin", "--serviceaccount", &account];
    hand.kubectl(&[&["--namespace", NAMESPACE], &bind[..]].concat());
    fs::write(&kubeconfig, for_user(&hand, admin.profile())).expect("a kubeconfig");
    let user = admin.on_context(Some(&kubeconfig));
    let up =
        ["up", "--context", NAMESPACE, "--namespace", NAMESPACE, "--image-mirror", MIRROR, "--without", "monitoring"];
    let refused = user.run(&up);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("render --scope cluster"), "{}", refused.stderr);

    hand.kubectl_with(&["apply", "--server-side", "-f", "-"], &manifests);
    hand.kubectl(&["-n", "cnpg-system", "rollout", "status", "deployment/barman-cloud", "--timeout", "180s"]);
    hand.kubectl(&["-n", "kube-system", "rollout", "status", "deployment/metrics-server", "--timeout", "180s"]);
    let before = specs(&hand, &manifests);
    user.ok(&up);
    let in_namespace = ["--context", NAMESPACE, "--namespace", NAMESPACE];
    let run = |args: &[&str]| user.ok(&[args, &in_namespace[..]].concat());
    let status = run(&["status"]);
    assert!(status.stdout.contains("at which you may not look"), "{}", status.stdout);
    run(&["diff", "--image-mirror", MIRROR]);
    run(&["failover-drill", "--yes", "primary-delete"]);
    run(&["switchover", "--yes"]);
    run(&["backup", "create"]);
    let backups = run(&["backup", "list"]).stdout;
    tell(&backups);
    run(&["down", "--yes"]);
    assert_eq!(specs(&hand, &manifests), before, "what is the administrators' was changed");
    let left =
        hand.kubectl(&["--namespace", NAMESPACE, "get", "deployments,clusters.postgresql.cnpg.io,pvc", "-o", "name"]);
    assert_eq!(left, "", "down left it");
    hand.kubectl_with(&["delete", "--ignore-not-found", "--timeout", "120s", "-f", "-"], &manifests);
}

/// What the administrators have applied, as it is: without statuses.
fn specs(hand: &Hand, manifests: &str) -> Value {
    let list: Value =
        serde_json::from_str(&hand.kubectl_with(&["get", "-o", "json", "-f", "-"], manifests)).expect("JSON");
    let items = list["items"].as_array().expect("a list").iter().map(|object| {
        let mut object = object.clone();
        let fields = object.as_object_mut().expect("an object");
        fields.remove("status");
        let metadata = &fields["metadata"];
        fields["metadata"] = json!({"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "labels": metadata["labels"]});
        // Certificates that the operator puts there by itself.
        if object["kind"] != "MutatingWebhookConfiguration" && object["kind"] != "ValidatingWebhookConfiguration" {
            return object;
        }
        object["metadata"]["uid"].clone()
    });
    items.collect()
}

/// The kubeconfig of the service account.
fn for_user(hand: &Hand, profile: &str) -> String {
    let token = hand.kubectl(&["--namespace", NAMESPACE, "create", "token", USER, "--duration", "2h"]);
    let text = hand.kubectl(&["config", "view", "--raw", "--flatten", "--minify", "-o", "json"]);
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["users"] = json!([{"name": USER, "user": {"token": token}}]);
    config["contexts"] =
        json!([{"name": NAMESPACE, "context": {"cluster": config["clusters"][0]["name"], "user": USER}}]);
    config["current-context"] = json!(NAMESPACE);
    assert_eq!(config["clusters"][0]["name"], profile);
    config.to_string()
}

/// Gives every image of the nodes the name that it has in the mirror, as if it had been pulled from there.
fn mirror(admin: &Stackctl) {
    let script = format!(
        "for image in $(ctr -n k8s.io images ls -q | grep -v sha256:); do \
         ctr -n k8s.io images tag --force $image {MIRROR}/$(echo ${{image#*/}} | sed 's,^library/,,') >/dev/null; done"
    );
    for node in [admin.profile().to_owned(), format!("{}-m02", admin.profile())] {
        let output = Command::new("docker").args(["exec", &node, "sh", "-c", &script]).output().expect("docker runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
