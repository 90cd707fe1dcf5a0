use std::time::Duration;

use serde_json::json;
use stackctl::{
    cli::{Global, OpenArgs},
    config::{Config, Options},
    context::Context,
    error::kind_of,
    kube::ObjectRef,
    reach::{self, OpenOptions, Site},
    ui::{Event, Mode, Reporter, Style, Verbosity},
};

use crate::harness::{Sandbox, control_plane, create, sandbox, set_status, words};

const STYLE: Style = Style { mode: Mode::Json, verbosity: Verbosity::Normal, color: false };

/// Grafana in the sandbox's namespace, with a pod of this status, which is not ready.
async fn grafana(sandbox: &Sandbox, status: serde_json::Value) -> Site {
    let label = json!({"app": "grafana"});
    let service = sandbox.object(
        "v1",
        "Service",
        "monitoring-grafana",
        json!({"spec": {"selector": label, "ports": [{"name": "http", "port": 80}]}}),
    );
    create(&sandbox.kube, serde_json::to_value(service).unwrap()).await;
    let container = json!({"name": "grafana", "image": "grafana:1"});
    let deployment = sandbox.object(
        "apps/v1",
        "Deployment",
        "monitoring-grafana",
        json!({"spec": {"selector": {"matchLabels": label},
            "template": {"metadata": {"labels": label}, "spec": {"containers": [container]}}}}),
    );
    create(&sandbox.kube, serde_json::to_value(deployment).unwrap()).await;
    let pod = sandbox.object("v1", "Pod", "grafana-1", json!({"spec": {"containers": [container]}}));
    let mut pod = serde_json::to_value(pod).unwrap();
    pod["metadata"]["labels"] = label;
    create(&sandbox.kube, pod).await;
    set_status(&sandbox.kube, &sandbox.reference("v1", "Pod", "grafana-1"), status).await;
    let workload = ObjectRef::namespaced("apps/v1", "Deployment", &sandbox.namespace, "monitoring-grafana");
    Site { namespace: sandbox.namespace.clone(), workload, ..Site::grafana() }
}

/// Tries to reach it; the exit code, the words, and what was told on the way.
async fn refused(site: &Site, timeout: &str) -> (u8, String, Vec<Event>) {
    let global = Global {
        kubeconfig: Some(control_plane().kubeconfig("admin-token", |_| {})),
        context: Some("test".into()),
        timeout: Some(timeout.into()),
        ..Global::default()
    };
    let config = Config::load(&global, &Options::default()).unwrap();
    let (reporter, mut events) = Reporter::channel();
    let cx = Context::new(config, reporter).unwrap();
    let open = OpenArgs { port: None, no_browser: true };
    let outcome = reach::reach(&cx, site, OpenOptions { open: &open, show_password: false }, STYLE).await;
    let error = outcome.err().expect("it must not be reached");
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        told.push(event);
    }
    (kind_of(&error).exit_code(), words(&error), told)
}

#[tokio::test]
async fn grafana_that_is_not_ready_is_waited_for_and_the_reason_told() {
    let sandbox = sandbox("reach-slow").await;
    let status = json!({"phase": "Pending", "containerStatuses": [{"name": "grafana", "image": "grafana:1",
        "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "registry.example.com does not answer"}}}]});
    let site = grafana(&sandbox, status).await;
    let began = std::time::Instant::now();
    let (code, text, told) = refused(&site, "8s").await;
    assert_eq!(code, 5, "{text}");
    assert!(began.elapsed() >= Duration::from_secs(7), "{:?}", began.elapsed());
    assert!(text.starts_with("Grafana is not ready: not ready in time"), "{text}");
    assert!(text.contains("ImagePullBackOff") && text.contains("registry.example.com does not answer"), "{text}");
    assert!(text.contains("--timeout gives it longer"), "{text}");
    assert!(told.iter().any(|event| matches!(event, Event::Problem { reason, .. } if reason == "ImagePullBackOff")));
}
