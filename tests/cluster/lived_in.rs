//! A namespace that others have fitted out: Pod Security, a policy of what pods may be, a quota, limits, a sidecar in every pod,
//! a node kept for somebody else, and a webhook of somebody's that is dead.

use std::{process::Command, time::Duration};

use crate::{
    backups::{self, within},
    clusters::UP,
    faults::Hand,
    suite::{Stack, tell},
};

/// The node that others keep for themselves.
const THEIR_NODE: &str = "-m02";
/// The API server's manifest on its node.
const API_SERVER: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
/// Before Kubernetes 1.36 policies that change objects are to be asked for.
const FLAGS: [&str; 2] =
    ["--feature-gates=MutatingAdmissionPolicy=true", "--runtime-config=admissionregistration.k8s.io/v1beta1=true"];

/// What is of the namespace, and of the whole cluster.
const MANIFEST: &str = r#"
apiVersion: v1
kind: Namespace
metadata:
  name: user-app
  labels: {team: others, pod-security.kubernetes.io/enforce: restricted}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: share, namespace: user-app}
spec: {hard: {requests.cpu: "4", requests.memory: 8Gi, limits.cpu: "60", limits.memory: 16Gi, pods: "60"}}
---
apiVersion: v1
kind: LimitRange
metadata: {name: bounds, namespace: user-app}
spec: {limits: [{type: Container, min: {cpu: 5m, memory: 8Mi}, max: {memory: 4Gi}}]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: nobody-is-root}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods]}]
  variables:
  - name: all
    expression: "object.spec.containers + (has(object.spec.initContainers) ? object.spec.initContainers : [])"
  validations:
  - expression: "variables.all.all(c, !(c.?securityContext.?privileged.orValue(false)))"
    message: nothing is privileged here
  - expression: "variables.all.all(c, c.?securityContext.?runAsUser.orValue(object.spec.?securityContext.?runAsUser.orValue(26)) >= 26)"
    message: user ids begin with 26 here
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: nobody-is-root}
spec:
  policyName: nobody-is-root
  validationActions: [Deny]
  matchResources: {namespaceSelector: {matchLabels: {team: others}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: dead}
webhooks:
- name: dead.example.com
  clientConfig: {service: {name: gone, namespace: default}}
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  timeoutSeconds: 2
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: theirs}}
  # Of what is in namespaces: a selector of namespaces leaves nothing else out.
  rules: [{apiGroups: ["*"], apiVersions: ["*"], operations: [CREATE], resources: ["*"], scope: Namespaced}]
---
apiVersion: admissionregistration.k8s.io/v1beta1
kind: MutatingAdmissionPolicyBinding
metadata: {name: mesh}
spec:
  policyName: mesh
  matchResources: {namespaceSelector: {matchLabels: {team: others}}}
---
"#;

/// Puts a container into each pod that does not end by itself, as meshes do; `but` says into which not.
fn mesh(but: &str) -> String {
    format!(
        r#"
apiVersion: admissionregistration.k8s.io/v1beta1
kind: MutatingAdmissionPolicy
metadata: {{name: mesh}}
spec:
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules: [{{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}}]
  matchConditions: [{{name: exempt, expression: "{but}"}}]
  mutations:
  - patchType: JSONPatch
    jsonPatch:
      expression: >
        [JSONPatch{{op: "add", path: "/spec/containers/-", value: Object.spec.containers{{
          name: "mesh", image: "busybox:stable", imagePullPolicy: "Never",
          command: ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"],
          resources: Object.spec.containers.resources{{
            requests: {{"cpu": "5m", "memory": "8Mi"}}, limits: {{"cpu": "100m", "memory": "32Mi"}}}},
          securityContext: Object.spec.containers.securityContext{{
            allowPrivilegeEscalation: false, runAsNonRoot: true, runAsUser: 1000,
            capabilities: Object.spec.containers.securityContext.capabilities{{drop: ["ALL"]}},
            seccompProfile: Object.spec.containers.securityContext.seccompProfile{{type: "RuntimeDefault"}}}}
        }}}}]
"#
    )
}

/// The stack comes up, fails over, is backed up, restored and loaded, and goes; all that others have is as it was.
pub fn goes_on(stack: &Stack) {
    let (stackctl, hand) = (&stack.stackctl, Hand::new(&stack.stackctl));
    let their_node = format!("{}{THEIR_NODE}", stackctl.profile());
    set_flags(&hand, stackctl.profile(), true);
    hand.kubectl(&["taint", "node", &their_node, "kept-for=others:NoSchedule"]);
    let manifest = [MANIFEST, &mesh("true")].concat();
    hand.kubectl_with(&["apply", "-f", "-"], &manifest);
    let before = theirs(&hand, &their_node);

    tell("a Job of the operator's does not end beside a container of others', and up says so");
    let kept = stackctl.run(&[&UP[..], &["--timeout", "150s"]].concat());
    assert_ne!(kept.code, 0, "it comes up");
    assert!(kept.stderr.contains("mesh beside it goes on: Job user-db-1"), "{}", kept.stderr);
    stackctl.ok(&["down", "--yes"]);

    tell("with the operator's Jobs exempt, as meshes are told to, everything goes on");
    let but = "!has(object.metadata.labels) || !('cnpg.io/jobRole' in object.metadata.labels)";
    hand.kubectl_with(&["apply", "-f", "-"], &mesh(but));
    stackctl.ok(&UP);
    stackctl.ok(&["diff"]);
    let pods = hand.json(&["get", "pods"]);
    for pod in pods["items"].as_array().into_iter().flatten() {
        let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        assert!(containers.into_iter().any(|one| one["name"] == "mesh"), "{}: without", pod["metadata"]["name"]);
        assert_ne!(pod["spec"]["nodeName"], their_node.as_str(), "{}", pod["metadata"]["name"]);
    }
    stackctl.ok(&["failover-drill", "--yes", "primary-delete"]);
    stackctl.ok(&["backup", "create"]);
    assert!(!backups::backups(stackctl, "user-db").is_empty());
    backups::is_sound(stackctl);
    stackctl.ok(&["load", "--rate", "50", "--duration", "15s", "--no-scale-down"]);
    stackctl.ok(&["logs", "web", "--tail", "1"]);
    assert_eq!(theirs(&hand, &their_node), before, "while the stack was there");

    stackctl.ok(&["down", "--yes"]);
    assert_eq!(theirs(&hand, &their_node), before, "after it had gone");
    hand.kubectl_with(&["delete", "-f", "-"], &manifest);
    hand.kubectl(&["taint", "node", &their_node, "kept-for-"]);
    set_flags(&hand, stackctl.profile(), false);
}

/// All that is others', by its identity and by what it says.
fn theirs(hand: &Hand, node: &str) -> String {
    let shown = "jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.uid} {.metadata.labels} {.spec} \
                 {.webhooks}{\"\\n\"}{end}{.kind}";
    let names = [
        "validatingadmissionpolicies/nobody-is-root",
        "validatingadmissionpolicybindings/nobody-is-root",
        "validatingwebhookconfigurations/dead",
        "mutatingadmissionpolicybindings/mesh",
        "namespaces/user-app",
    ];
    let cluster = hand.kubectl(&[&["get"], &names[..], &["-o", shown]].concat());
    let inside = hand.kubectl(&["get", "resourcequotas,limitranges", "-o", shown]);
    let taints = hand.kubectl(&["get", "node", node, "-o", "jsonpath={.spec.taints}"]);
    [cluster, inside, taints].join("\n")
}

/// Gives the API server the flags, or takes them away, and waits until it serves with them.
fn set_flags(hand: &Hand, node: &str, on: bool) {
    let lines: Vec<String> = FLAGS.iter().map(|flag| format!("    - {flag}")).collect();
    let script = if on {
        // After the program's name, the first line of its command.
        let add = lines.iter().map(|line| format!("{line}\\n")).collect::<String>();
        format!("sed -i 's|^    - kube-apiserver$|&\\n{}|' {API_SERVER}", add.trim_end_matches("\\n"))
    } else {
        FLAGS.iter().map(|flag| format!("sed -i '\\|- {flag}$|d' {API_SERVER}; ")).collect()
    };
    let status = Command::new("docker").args(["exec", node, "sh", "-c", &script]).status().expect("docker runs");
    assert!(status.success(), "the API server's manifest was not changed");
    let served = || hand.answers(&["get", "--raw", "/apis/admissionregistration.k8s.io/v1beta1"]);
    within(Duration::from_secs(120), "the API server with other flags", || {
        served() == on && hand.answers(&["get", "nodes"])
    });
}
