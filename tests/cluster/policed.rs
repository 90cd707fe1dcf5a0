//! A cluster whose network enforces NetworkPolicies, in a namespace where nothing is let through that no policy names.

use std::{env, path::PathBuf, process::Command};

use crate::{
    backups::{self, within},
    cli::Stackctl,
    faults::Hand,
    suite::{Stack, tell},
};

const NAMESPACE: &str = "user-app";
const NODES: [&str; 2] = ["", "-m02"];
/// The engine of <https://github.com/kubernetes-sigs/kube-network-policies>, which `cargo xtask bundle --only neighbours` makes.
const ENGINE: &str = "kube-network-policies";
/// Where it is on the nodes.
const PLACE: &str = "/opt/kube-network-policies";
/// The engine hands itself packets by a rule of nftables that not every kernel knows. These do the same: what begins a
/// conversation of a pod's is asked about, unless root on the node begins it, as the kubelet's probes do.
const RULES: &str = "iptables -t mangle -N POLICIES 2>/dev/null || iptables -t mangle -F POLICIES
iptables -t mangle -C POSTROUTING -j POLICIES 2>/dev/null || iptables -t mangle -A POSTROUTING -j POLICIES
iptables -t mangle -A POLICIES -m owner --uid-owner 0 -j RETURN
iptables -t mangle -A POLICIES -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN
iptables -t mangle -A POLICIES -s 10.244.0.0/16 -j NFQUEUE --queue-num 98
iptables -t mangle -A POLICIES -d 10.244.0.0/16 -j NFQUEUE --queue-num 98";
const NO_RULES: &str = "iptables -t mangle -D POSTROUTING -j POLICIES; iptables -t mangle -F POLICIES; \
                        iptables -t mangle -X POLICIES";

const MANIFEST: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: kube-network-policies, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: kube-network-policies}
rules:
- {apiGroups: [""], resources: [pods, namespaces], verbs: [list, watch]}
- {apiGroups: [networking.k8s.io], resources: [networkpolicies], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: kube-network-policies}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: kube-network-policies}
subjects: [{kind: ServiceAccount, name: kube-network-policies, namespace: kube-system}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: kube-network-policies, namespace: kube-system}
spec:
  selector: {matchLabels: {app: kube-network-policies}}
  template:
    metadata: {labels: {app: kube-network-policies}}
    spec:
      hostNetwork: true
      serviceAccountName: kube-network-policies
      terminationGracePeriodSeconds: 1
      tolerations: [{operator: Exists}]
      containers:
      - name: engine
        image: busybox:stable
        imagePullPolicy: Never
        command: [/opt/kube-network-policies, --nfqueue-id=98, --disable-nri, --netfilter-bug-1766-fix=false,
                  --hostname-override=$(NODE)]
        env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        securityContext: {privileged: true}
        volumeMounts: [{name: program, mountPath: /opt/kube-network-policies}]
      volumes: [{name: program, hostPath: {path: /opt/kube-network-policies, type: File}}]
"#;

/// Nothing gets in or out, by whoever owns the namespace.
const DENY: &str = r#"{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
    "metadata": {"name": "default-deny"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}}"#;

/// The stack gets policies of its own, by which everything goes on, and others get in where they should and nowhere else.
pub fn goes_on(stack: &Stack) {
    let (stackctl, hand) = (&stack.stackctl, Hand::new(&stack.stackctl));
    enforce(stackctl, &hand);
    hand.kubectl(&["create", "namespace", NAMESPACE]);
    hand.kubectl_with(&["-n", NAMESPACE, "apply", "-f", "-"], DENY);
    let before = spec_of_deny(&hand);

    tell("without policies of its own the stack is cut off, and what cuts it off is named");
    let cut_off =
        stackctl.run(&[&crate::clusters::UP[..], &["--without", "network-policies", "--timeout", "150s"]].concat());
    assert_ne!(cut_off.code, 0, "it comes up without");
    assert!(cut_off.stderr.contains("of NetworkPolicies default-deny"), "{}", cut_off.stderr);

    let up = stackctl.ok(&crate::clusters::UP);
    let told = format!("as DaemonSet kube-system/{ENGINE} enforces them");
    assert!(up.stderr.contains(&told) || up.stdout.contains(&told), "{}\n{}", up.stdout, up.stderr);
    stackctl.ok(&["diff"]);
    strangers_get_in_where_they_should(&hand);
    stackctl.ok(&["failover-drill", "--yes", "primary-delete"]);
    stackctl.ok(&["backup", "create"]);
    assert!(!backups::backups(stackctl, "user-db").is_empty());
    backups::is_sound(stackctl);
    stackctl.ok(&["load", "--rate", "50", "--duration", "15s", "--no-scale-down"]);

    assert_eq!(spec_of_deny(&hand), before, "it was changed");
    stackctl.ok(&["down", "--yes"]);
    assert_eq!(spec_of_deny(&hand), before, "the namespace, which was there before, went with it");
    hand.kubectl(&["delete", "namespace", NAMESPACE, STRANGERS]);
    forget(stackctl, &hand);
}

const STRANGERS: &str = "strangers";

/// Who is in another namespace reaches the app and what Prometheus asks for, and neither PostgreSQL nor the store.
fn strangers_get_in_where_they_should(hand: &Hand) {
    hand.kubectl(&["create", "namespace", STRANGERS]);
    let run = ["run", "stranger", "--image", "busybox:stable", "--image-pull-policy", "Never", "--command", "--"];
    hand.kubectl(&[&["-n", STRANGERS], &run[..], &["sleep", "3600"]].concat());
    hand.kubectl(&["-n", STRANGERS, "wait", "pod/stranger", "--for", "condition=Ready", "--timeout", "60s"]);
    let address = |pod: &str| hand.kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.podIP}"]);
    let app = hand.kubectl(&["get", "service", "user-app", "-o", "jsonpath={.spec.clusterIP}"]);
    let (database, store) = (address("user-db-1"), address("backup-store-0"));
    let reached = |address: &str, port: u16| {
        let script = format!("nc -w 3 {address} {port} </dev/null && echo reached || echo refused");
        hand.kubectl(&["-n", STRANGERS, "exec", "stranger", "--", "sh", "-c", &script]).ends_with("reached")
    };
    for (what, address, port, expected) in [
        ("the app", &app, 80, true),
        ("the database's metrics", &database, 9187, true),
        ("PostgreSQL", &database, 5432, false),
        ("the instance manager", &database, 8000, false),
        ("the store for backups", &store, 7070, false),
    ] {
        assert_eq!(reached(address, port), expected, "{what} at {address}:{port}");
    }
}

/// Has the nodes enforce policies, and shows that they do.
fn enforce(stackctl: &Stackctl, hand: &Hand) {
    let path = env::var_os("PATH").unwrap_or_default();
    let program = env::split_paths(&path).map(|folder| folder.join(ENGINE)).find(|program| program.is_file());
    let program =
        program.unwrap_or_else(|| panic!("no {ENGINE} in PATH: cargo xtask bundle --only neighbours makes it"));
    for node in NODES.map(|suffix| format!("{}{suffix}", stackctl.profile())) {
        let real: PathBuf = program.canonicalize().expect("it is there");
        docker(&["cp", real.to_str().expect("a plain path"), &format!("{node}:{PLACE}")]);
        docker(&["exec", &node, "sh", "-c", RULES]);
    }
    hand.kubectl_with(&["apply", "-f", "-"], MANIFEST);
    hand.kubectl(&["-n", "kube-system", "rollout", "status", &format!("daemonset/{ENGINE}"), "--timeout", "90s"]);
    shows_that_it_denies(hand);
}

fn shows_that_it_denies(hand: &Hand) {
    let name = "proving";
    hand.kubectl(&["create", "namespace", name]);
    for (pod, command) in [("server", &["httpd", "-f", "-p", "8080"][..]), ("client", &["sleep", "3600"])] {
        let run = ["run", pod, "--image", "busybox:stable", "--image-pull-policy", "Never", "--command", "--"];
        hand.kubectl(&[&["-n", name], &run[..], command].concat());
    }
    hand.kubectl(&["-n", name, "wait", "pod", "--all", "--for", "condition=Ready", "--timeout", "60s"]);
    let server = hand.kubectl(&["-n", name, "get", "pod", "server", "-o", "jsonpath={.status.podIP}"]);
    let script = format!("nc -w 2 {server} 8080 </dev/null && echo reached || echo refused");
    let reached = || hand.kubectl(&["-n", name, "exec", "client", "--", "sh", "-c", &script]).ends_with("reached");
    within(std::time::Duration::from_secs(30), "an answer without a policy", reached);
    hand.kubectl_with(&["-n", name, "apply", "-f", "-"], DENY);
    within(std::time::Duration::from_secs(30), "a policy's effect", || !reached());
    hand.kubectl(&["delete", "namespace", name]);
}

fn forget(stackctl: &Stackctl, hand: &Hand) {
    hand.kubectl_with(&["delete", "-f", "-"], MANIFEST);
    for node in NODES.map(|suffix| format!("{}{suffix}", stackctl.profile())) {
        docker(&["exec", &node, "sh", "-c", NO_RULES]);
    }
}

fn spec_of_deny(hand: &Hand) -> String {
    hand.kubectl(&["get", "networkpolicy", "default-deny", "-o", "jsonpath={.metadata.uid} {.spec}"])
}

fn docker(args: &[&str]) {
    let output = Command::new("docker").args(args).output().expect("docker runs");
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
