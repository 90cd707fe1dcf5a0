//! Clusters of the user's that can't be used: nothing is sent to them that changes anything.

use std::net::TcpListener;

use crate::{
    api_server::{api_server, kubeconfig},
    sandbox::Sandbox,
    snapshot,
};

const UP: [&str; 6] = ["up", "--quiet", "--context", "prod", "--registry", "registry.example.com/team"];

#[test]
fn a_context_that_is_not_in_the_kubeconfig() {
    let sandbox = Sandbox::with_docker();
    kubeconfig(&sandbox, "https://192.0.2.1");
    snapshot!(sandbox.run(&["up", "--quiet", "--context", "pord", "--registry", "registry.example.com"]), @r#"
    exit code 1
    -- stderr
    [preflight] Preflight checks: FAILED after [TIME]
    error: Preflight checks failed: cannot use the cluster of context pord: the kubeconfig has no context "pord"
      try: it has these: prod, other
    "#);
}

#[test]
fn no_kubeconfig_at_all() {
    let sandbox = Sandbox::with_docker();
    snapshot!(sandbox.run(&UP), @r#"
    exit code 3
    -- stderr
    [preflight] Preflight checks: FAILED after [TIME]
    error: Preflight checks failed: cannot use the cluster of context prod: there is no kubeconfig at [DIR]/home/.kube/config
      try: create the cluster first (stackctl --context prod up), or name the file with --kubeconfig or KUBECONFIG
    "#);
}

#[test]
fn no_registry_to_push_the_image_to() {
    let sandbox = Sandbox::with_docker();
    kubeconfig(&sandbox, "https://192.0.2.1");
    snapshot!(sandbox.run(&["up", "--quiet", "--context", "prod"]), @r#"
    exit code 2
    -- stderr
    [preflight] Preflight checks: FAILED after [TIME]
    error: Preflight checks failed: context prod needs a registry that its nodes can pull the web image from
      try: name it: --registry registry.example.com/team
      try: or, if bundle push has put it into a mirror: --image-mirror registry.example.com/mirror
    "#);
    assert!(sandbox.calls().is_empty());
}

#[test]
fn an_api_server_that_is_not_there() {
    let sandbox = Sandbox::with_docker();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    kubeconfig(&sandbox, &format!("https://127.0.0.1:{port}"));
    snapshot!(sandbox.run(&UP), @r#"
    exit code 1
    -- stderr
    [preflight] Preflight checks: FAILED after [TIME]
    error: Preflight checks failed: cannot use the cluster of context prod: the API server at https://127.0.0.1:[PORT] is not running: Connection refused (os error 111)
      try: start the cluster (stackctl --context prod up starts its minikube profile), or check the address in the kubeconfig
    "#);
}

#[test]
fn credentials_that_have_expired() {
    let sandbox = Sandbox::with_docker();
    let (server, _) = api_server(|_| {
        (401, r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}"#.into())
    });
    kubeconfig(&sandbox, &server);
    let shown = sandbox.run(&UP);
    assert!(!shown.contains("not-a-real-token"));
    snapshot!(shown, @r#"
    exit code 1
    -- stderr
    [preflight] Preflight checks: FAILED after [TIME]
    error: Preflight checks failed: cannot use the cluster of context prod: cannot use the API server at http://127.0.0.1:[PORT]: the API server does not accept the credentials (401 Unauthorized)
      try: log in again, or renew the user's certificate or token in the kubeconfig
    "#);
}

#[test]
fn rights_that_do_not_suffice_are_named_before_anything_is_changed() {
    let sandbox = Sandbox::with_docker();
    let list = |kind: &str| format!(r#"{{"kind":"{kind}List","apiVersion":"v1","metadata":{{}},"items":[]}}"#);
    let (server, requests) = api_server(move |request| {
        let denied = ["clusterroles", "customresourcedefinitions", r#""resource":"*""#];
        let allowed = !denied.iter().any(|resource| request.contains(resource));
        let text = match request.split_whitespace().nth(1).unwrap_or_default() {
            "/version" => r#"{"major":"1","minor":"35","gitVersion":"v1.35.4","gitCommit":"","gitTreeState":"","buildDate":"","goVersion":"","compiler":"","platform":""}"#.into(),
            path if path.contains("selfsubjectaccessreviews") => format!(
                r#"{{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","metadata":{{}},"spec":{{}},"status":{{"allowed":{allowed}}}}}"#
            ),
            path if path.contains("storageclasses") => r#"{"kind":"StorageClassList","apiVersion":"storage.k8s.io/v1","metadata":{},"items":[{"metadata":{"name":"standard","annotations":{"storageclass.kubernetes.io/is-default-class":"true"}},"provisioner":"x"}]}"#.into(),
            path if path.contains("validatingwebhook") => list("ValidatingWebhookConfiguration"),
            path if path.contains("mutatingwebhook") => list("MutatingWebhookConfiguration"),
            _ => r#"{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","metadata":{},"items":[]}"#.into(),
        };
        (200, text)
    });
    kubeconfig(&sandbox, &server);
    snapshot!(sandbox.run(&UP), @r#"
    exit code 1
    -- stderr
    [preflight] Preflight checks: FAILED after [TIME]
    error: Preflight checks failed: you may not patch customresourcedefinitions.apiextensions.k8s.io, patch clusterroles.rbac.authorization.k8s.io, and so install nothing of the whole cluster; the cluster lacks the databases of CloudNativePG, the places for backups of its barman-cloud plugin, the metrics of pods
      try: have an administrator of the cluster prepare it: stackctl --context prod --namespace user-app render --scope cluster --registry registry.example.com/team | kubectl --context prod apply --server-side -f -
      try: and have him give you the role: kubectl --context prod -n user-app create rolebinding stackctl --clusterrole admin --user YOU
    "#);
    for request in requests.lock().unwrap().iter() {
        assert!(request.starts_with("GET ") || request.contains("selfsubjectaccessreviews"), "{request}");
    }
    assert!(!sandbox.calls().iter().any(|call| call.starts_with("docker push")), "{:?}", sandbox.calls());
}
