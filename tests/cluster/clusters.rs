//! A cluster that others use, too: an operator of somebody else's, and two stacks of which either one goes.

use std::{env, fs, path::PathBuf, thread, time::Duration};

use crate::{
    backups::until,
    cli::Stackctl,
    drills::drill,
    faults::{Hand, second_store},
    lived_in, machine, policed,
    suite::{Stack, Step, Suite, tell},
    tenant,
};

const PROFILE: &str = "stackctl-shared";
/// Two nodes have room for two stacks where one of two processors has not.
pub const UP: [&str; 5] = ["up", "--nodes", "2", "--without", "monitoring"];
/// The namespace of the operator that is somebody else's.
const THEIRS: &str = "cnpg";

pub fn suite() -> Suite {
    let steps = vec![
        Step::new("up", "the stack comes up on two nodes, and goes again: a cluster that was there before", |stack| {
            set_up(stack);
            stack.stackctl.ok(&["down", "--yes"]);
        })
        .without_stack(),
        Step::new("old-operator", "an operator that is too old is refused, and nothing is changed", old_operator)
            .without_stack(),
        Step::new("foreign-operator", "an operator of somebody else's is used and stays as it was", foreign_operator)
            .without_stack(),
        Step::new("second-goes", "of two stacks the second goes: the first fails over and is scaled", |stack| {
            one_of_two_goes(stack, "user-app", "b");
        })
        .without_stack(),
        Step::new("first-goes", "of two stacks the first goes: the second fails over and is scaled", |stack| {
            one_of_two_goes(stack, "b", "user-app");
        })
        .without_stack(),
        Step::new("same-bucket", "a bucket that holds another database's backups is refused", same_bucket)
            .without_stack(),
        Step::new("tenant", "whoever administers one namespace brings a stack up in it", tenant::brings_a_stack_up)
            .without_stack(),
        Step::new("policed", "where nothing is let through that no policy names, everything goes on", policed::goes_on)
            .without_stack(),
        Step::new(
            "lived-in",
            "beside quotas, policies, sidecars and a node of others', everything goes on",
            lived_in::goes_on,
        )
        .without_stack(),
        Step::new("late-kubelet", "a kubelet that is not heard of for a moment costs no instance", late_kubelet)
            .without_stack(),
        Step::new("resized", "an up that changes the instances ends when all are changed", resized).without_stack(),
        Step::new("delete", "down --cluster leaves nothing on this machine", |stack| machine::end(&stack.stackctl))
            .without_stack(),
    ];
    Suite { command: "cargo xtask clusters", profile: PROFILE, set_up, steps }
}

fn set_up(stack: &Stack) {
    stack.stackctl.ok(&UP);
}

/// An operator replaces the instances one by one, and calls the database healthy until it has begun.
fn resized(stack: &Stack) {
    let (hand, stackctl) = (Hand::new(&stack.stackctl), &stack.stackctl);
    set_up(stack);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.toml");
    fs::write(&file, "[sizes]\ndatabase-cpu = \"110m\"\n").expect("a configuration file");
    stackctl.ok(&[&UP[..], &["--config", file.to_str().expect("a plain path")]].concat());
    let pods = hand.json(&["get", "pods", "--selector", "cnpg.io/podRole=instance"]);
    let requests = pods["items"].as_array().into_iter().flatten().map(|pod| {
        let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        let postgres = containers.into_iter().find(|container| container["name"] == "postgres");
        postgres.map(|container| container["resources"]["requests"]["cpu"].clone()).unwrap_or_default()
    });
    let requests: Vec<_> = requests.collect();
    assert_eq!(requests, ["110m"; 3], "up ended before the operator had replaced them");
    stackctl.ok(&["down", "--yes"]);
}

/// Nodes of which nothing is heard count as lost after 6 s. The kubelets of all come back three seconds later, one after the
/// other, the primary's too: whatever it is that keeps one silent for as long, an API server's absence, an upgrade, a slow disk.
fn late_kubelet(stack: &Stack) {
    let (stackctl, hand) = (&stack.stackctl, Hand::new(&stack.stackctl));
    set_up(stack);
    let pods = "jsonpath={range .items[*]}{.metadata.name} {.metadata.uid}{\"\\n\"}{end}";
    let instances = || hand.kubectl(&["get", "pods", "--selector", "cnpg.io/podRole=instance", "-o", pods]);
    let (before, primary) = (instances(), hand.primary());
    for node in [stackctl.profile().to_owned(), format!("{}-m02", stackctl.profile())] {
        let since = "jsonpath={.status.conditions[?(@.type==\"Ready\")].lastTransitionTime}";
        let changed = || hand.kubectl(&["get", "node", &node, "-o", since]);
        let never = changed();
        hand.late_kubelet(&node, Duration::from_secs(9));
        assert_ne!(changed(), never, "{node} did not count as lost");
        // What is evicted is evicted within a quarter of a minute.
        thread::sleep(Duration::from_secs(25));
        assert_eq!(instances(), before, "instances were replaced as {node} was late");
        assert_eq!(hand.primary(), primary, "another one is the primary as {node} was late");
        healthy(stackctl, "user-app");
    }
    stackctl.ok(&["down", "--yes"]);
}

/// Upstream's own manifest, as somebody else has applied it: to another namespace.
fn manifest() -> String {
    let folder = PathBuf::from(env::var_os("STACKCTL_BUNDLE").expect("the test runs from a bundle")).join("manifests");
    let files = fs::read_dir(folder).expect("the bundle has manifests").filter_map(Result::ok);
    let file = files.map(|file| file.path()).find(|path| path.to_string_lossy().contains("/cnpg-"));
    let text = fs::read_to_string(file.expect("the operator's manifest")).expect("it can be read");
    text.replace("cnpg-system", THEIRS).replace("imagePullPolicy: Always", "imagePullPolicy: IfNotPresent")
}

/// What is theirs, by its spec: statuses move.
fn theirs(hand: &Hand) -> String {
    let kinds = "deployments,services,serviceaccounts,configmaps,roles,rolebindings";
    let inside = hand.json(&["-n", THEIRS, "get", kinds]);
    let cluster = hand.json(&[
        "get",
        "namespace/cnpg",
        "clusterrole/cnpg-manager",
        "clusterrolebinding/cnpg-manager-rolebinding",
        "crd/clusters.postgresql.cnpg.io",
        "mutatingwebhookconfiguration/cnpg-mutating-webhook-configuration",
        "validatingwebhookconfiguration/cnpg-validating-webhook-configuration",
    ]);
    let mut shown = String::new();
    for object in [inside, cluster].iter().flat_map(|list| list["items"].as_array().cloned().unwrap_or_default()) {
        let metadata = &object["metadata"];
        // The plugin has to be beside the operator.
        if metadata["labels"]["app.kubernetes.io/managed-by"] == "stackctl" {
            continue;
        }
        let parts = ["spec", "data", "rules", "roleRef", "subjects", "webhooks"].map(|part| object[part].to_string());
        let name = format!("{}/{}", object["kind"], metadata["name"]);
        shown.push_str(&format!("{name} {} {}\n", metadata["labels"], parts.join(" ")));
    }
    shown
}

fn install(hand: &Hand, manifest: &str) {
    hand.kubectl_with(&["apply", "--server-side", "--field-manager", "somebody", "-f", "-"], manifest);
}

fn uninstall(hand: &Hand, manifest: &str) {
    hand.kubectl_with(&["delete", "--ignore-not-found", "-f", "-"], manifest);
}

fn old_operator(stack: &Stack) {
    let hand = Hand::new(&stack.stackctl);
    // Its image is in no registry that the node knows: what is there counts, not whether it runs.
    let old = manifest().replace("cloudnative-pg:1.30", "cloudnative-pg:1.27");
    install(&hand, &old);
    let before = theirs(&hand);
    let refused = stack.stackctl.run(&UP);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    let told = refused.stderr.contains("of somebody else's") && refused.stderr.contains("nothing was changed");
    assert!(told, "{}", refused.stderr);
    assert_eq!(theirs(&hand), before);
    assert_eq!(hand.find("namespace", "user-app"), Some(None), "its namespace was made");
    uninstall(&hand, &old);
}

fn foreign_operator(stack: &Stack) {
    let (stackctl, hand) = (&stack.stackctl, Hand::new(&stack.stackctl));
    let manifest = manifest();
    install(&hand, &manifest);
    hand.kubectl(&["-n", THEIRS, "rollout", "status", "deployment/cnpg-controller-manager", "--timeout", "120s"]);
    let before = theirs(&hand);
    stackctl.ok(&UP);
    assert_eq!(hand.find("namespace", "cnpg-system"), Some(None), "a second operator was installed");
    healthy(stackctl, "user-app");
    let backups = crate::backups::part(stackctl, "backups");
    assert_eq!(backups["health"], "healthy", "{backups:#}");
    tell("it fails over; a drill that stops the operator is refused");
    stackctl.ok(&["failover-drill", "--yes", "primary-delete"]);
    let refused = stackctl.run(&["failover-drill", "--yes", "operator-down"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert_eq!(theirs(&hand), before, "while the stack was there");
    stackctl.ok(&["down", "--yes"]);
    assert_eq!(theirs(&hand), before, "after down");
    uninstall(&hand, &manifest);
}

fn same_bucket(stack: &Stack) {
    let (stackctl, hand) = (&stack.stackctl, Hand::new(&stack.stackctl));
    let keys = ["--from-literal=ACCESS_KEY_ID=mine", "--from-literal=SECRET_ACCESS_KEY=only-for-this-test"];
    let up = [&UP[..], &["--backup-s3", second_store::PLACE]].concat();
    // The store in the cluster tells which image the other one is to be of.
    set_up(stack);
    second_store::start(&hand);
    second_store::shell(&hand, "mkdir /data/team");
    hand.kubectl(&["delete", "secret", "keys", "--ignore-not-found"]);
    hand.kubectl(&[&["create", "secret", "generic", "keys"], &keys[..]].concat());
    stackctl.ok(&up);
    until("the first base backup", || !crate::backups::backups(stackctl, "user-db").is_empty());

    hand.kubectl(&["create", "namespace", "b"]);
    hand.kubectl(&[&["-n", "b", "create", "secret", "generic", "keys"], &keys[..]].concat());
    let refused = stackctl.run(&[&["--namespace", "b"], &up[..]].concat());
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("already has backups under the name user-db"), "{}", refused.stderr);
    let made = hand.json(&["-n", "b", "get", "clusters.postgresql.cnpg.io"]);
    assert_eq!(made["items"].as_array().map(Vec::len), Some(0), "its database was made");
    stackctl.ok(&["--namespace", "b", "down", "--yes"]);
    hand.kubectl(&["delete", "namespace", "b", "--ignore-not-found"]);
    healthy(stackctl, "user-app");
    stackctl.ok(&["down", "--yes"]);
    hand.kubectl(&["delete", "namespace", "elsewhere"]);
}

/// Brings up the stack beside the other, removes one, and tries the one that stays.
fn one_of_two_goes(stack: &Stack, stays: &str, goes: &str) {
    let stackctl = &stack.stackctl;
    for namespace in ["user-app", "b"] {
        stackctl.ok(&[&["--namespace", namespace], &UP[..]].concat());
    }
    let plan = stackctl.ok(&["--namespace", goes, "down", "--dry-run"]);
    assert!(plan.stderr.contains("kept: ") && plan.stderr.contains(stays), "{}", plan.stderr);
    stackctl.ok(&["--namespace", goes, "down", "--yes"]);
    healthy(stackctl, stays);
    let run = drill(stackctl, &["--namespace", stays, "primary-delete"]);
    assert_eq!(run["pass"], true, "{:#}", run["criteria"]);
    until("the autoscaler reads the CPU of the stack that stays", || {
        let hand = Hand::new(stackctl);
        let scaler = hand.json(&["-n", stays, "get", "horizontalpodautoscaler", "user-app"]);
        let conditions = scaler["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let active = conditions.iter().find(|condition| condition["type"] == "ScalingActive");
        active.is_some_and(|active| active["status"] == "True")
    });
    healthy(stackctl, stays);
    stackctl.ok(&["--namespace", stays, "down", "--yes"]);
    let left = Hand::new(stackctl).json(&[
        "-n",
        "kube-system",
        "get",
        "deployments",
        "-l",
        "app.kubernetes.io/managed-by=stackctl",
    ]);
    assert_eq!(left["items"].as_array().map(Vec::len), Some(0), "what both shared goes with the last: {left:#}");
}

fn healthy(stackctl: &Stackctl, namespace: &str) {
    until("a healthy stack", || stackctl.run(&["--namespace", namespace, "status"]).code == 0);
}
