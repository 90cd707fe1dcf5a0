//! `stackctl load`: what it refuses before it sends anything.

use crate::{
    api_server::{NO_KINDS, Requests, api_server, kubeconfig, not_found},
    sandbox::Sandbox,
    snapshot,
};

const DEPLOYMENT: &str = r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"user-app"},"spec":{"selector":{},
    "template":{"spec":{"containers":[{"name":"user-app","env":[{"name":"RATE_LIMIT_WRITES","value":"5000"}]}]}}},
    "status":{"readyReplicas":2}}"#;
const AUTOSCALER: &str = r#"{"apiVersion":"autoscaling/v2","kind":"HorizontalPodAutoscaler","metadata":{"name":"user-app"},
    "spec":{"maxReplicas":10,"scaleTargetRef":{"kind":"Deployment","name":"user-app"}}}"#;
const API_SERVICE: &str = r#"{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{"name":"v1beta1.metrics.k8s.io"},
    "spec":{"group":"metrics.k8s.io","version":"v1beta1","groupPriorityMinimum":1,"versionPriority":1,
    "service":{"namespace":"shop","name":"adapter"}}}"#;
const KINDS: &str = r#"{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","metadata":{},"items":[
    {"metadata":{"name":"apiregistration.k8s.io"},"versions":[{"version":"v1","resources":[{"resource":"apiservices",
     "responseKind":{"group":"apiregistration.k8s.io","version":"v1","kind":"APIService"},"scope":"Cluster",
     "singularResource":"apiservice","verbs":["get","list"]}]}]}]}"#;

/// A stack that is up, with `metrics` as the answer of the metrics API.
fn stack(sandbox: &Sandbox, metrics: (u16, &'static str), adapter: bool, sending: bool) -> Requests {
    let (server, requests) = api_server(move |request| {
        let path = request.split_whitespace().nth(1).unwrap_or_default();
        match path {
            "/apis/apps/v1/namespaces/user-app/deployments/user-app" => (200, DEPLOYMENT.into()),
            "/apis/autoscaling/v2/namespaces/user-app/horizontalpodautoscalers/user-app" => (200, AUTOSCALER.into()),
            "/api/v1/namespaces/user-app/pods/stackctl-load" if sending => (
                200,
                r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"stackctl-load"},"status":{"phase":"Running"}}"#
                    .into(),
            ),
            path if path.starts_with("/apis/metrics.k8s.io/") => (metrics.0, metrics.1.into()),
            path if adapter && path.contains("/apiservices/") => (200, API_SERVICE.into()),
            path if path.contains("/apiservices/") || path.contains("/namespaces/") => {
                not_found(path.rsplit('/').next().unwrap_or_default())
            }
            "/apis" => (200, KINDS.into()),
            _ => (200, NO_KINDS.into()),
        }
    });
    kubeconfig(sandbox, &server);
    requests
}

const LOAD: [&str; 4] = ["load", "--quiet", "--context", "prod"];

fn nothing_was_changed(requests: &Requests) {
    let requests = requests.lock().unwrap();
    assert!(requests.iter().all(|request| request.starts_with("GET ")), "{requests:?}");
}

#[test]
fn something_else_answers_the_metrics_api() {
    let sandbox = Sandbox::bare();
    let requests = stack(&sandbox, (200, r#"{"kind":"MetricValueList","items":[]}"#), true, false);
    snapshot!(sandbox.run(&LOAD), @r#"
    exit code 1
    -- stderr
    error: the metrics API, served by Service shop/adapter, does not tell what pods use: its answer is not a list of pods: {"kind":"MetricValueList","items":[]}
      try: repair what serves it: kubectl --context prod top pods must work
      try: or have stackctl's metrics-server instead: kubectl --context prod delete apiservice v1beta1.metrics.k8s.io, then stackctl --context prod up
    "#);
    nothing_was_changed(&requests);
}

#[test]
fn nobody_answers_the_metrics_api() {
    let sandbox = Sandbox::bare();
    let requests = stack(&sandbox, (404, "404 page not found\n"), false, false);
    snapshot!(sandbox.run(&LOAD), @r"
    exit code 1
    -- stderr
    error: nobody serves the metrics API: the autoscaler is blind
      try: stackctl --context prod up installs metrics-server where there is none
    ");
    nothing_was_changed(&requests);
}

#[test]
fn a_load_that_is_being_sent_is_left_alone() {
    let sandbox = Sandbox::bare();
    let requests = stack(&sandbox, (200, ""), true, true);
    snapshot!(sandbox.run(&LOAD), @r"
    exit code 1
    -- stderr
    error: a load is being sent already, by pod user-app/stackctl-load
      try: wait for it: it ends by itself
      try: or end it: kubectl --context prod -n user-app delete pod stackctl-load
    ");
    nothing_was_changed(&requests);
}

#[test]
fn more_than_the_app_takes_from_one_client() {
    let sandbox = Sandbox::bare();
    stack(&sandbox, (200, ""), true, false);
    let rate = [&LOAD[..], &["--rate", "6000"]].concat();
    snapshot!(sandbox.run(&rate), @r"
    exit code 2
    -- stderr
    error: --rate 6000 is more than the app takes from one client: 5000
      try: a lower --rate; the limits are RATE_LIMIT_READS and RATE_LIMIT_WRITES of the Deployment
    ");
}

#[test]
fn values_that_make_no_sense() {
    let sandbox = Sandbox::bare();
    snapshot!(sandbox.run(&["load", "--rate", "0"]), @r"
    exit code 2
    -- stderr
    error: --rate 0 is out of range: 1 to 100000
    ");
    snapshot!(sandbox.run(&["load", "--duration", "soon"]), @r#"
    exit code 2
    -- stderr
    error: --duration "soon" is not a duration
      try: write it like [TIME], 10m or 1h30m
    "#);
}

#[test]
fn a_stack_that_is_not_installed() {
    let sandbox = Sandbox::bare();
    let (server, _) =
        api_server(
            |request| {
                if request.contains("/namespaces/") { not_found("user-app") } else { (200, NO_KINDS.into()) }
            },
        );
    kubeconfig(&sandbox, &server);
    snapshot!(sandbox.run(&LOAD), @r"
    exit code 1
    -- stderr
    error: there is no Deployment user-app/user-app on context prod
      try: stackctl --context prod up installs it
    ");
}
