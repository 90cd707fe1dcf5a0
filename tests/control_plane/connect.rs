use std::net::TcpListener;

use serde_json::json;
use stackctl::{
    error::kind_of,
    kube::{ClusterRef, Kube},
};

use crate::harness::{control_plane, words};

async fn refused(cluster: ClusterRef) -> (u8, String) {
    let error = Kube::connect(&cluster).await.err().expect("it must not connect");
    (kind_of(&error).exit_code(), words(&error))
}

#[tokio::test]
async fn connecting_takes_two_requests() {
    let kube = control_plane().connect().await;
    assert_eq!(kube.requests(), 2);
    assert!(kube.version().await.unwrap().starts_with("v1."));
    assert_eq!(kube.requests(), 3);
}

#[tokio::test]
async fn no_kubeconfig() {
    let cluster = ClusterRef { kubeconfig: Some("/nonexistent/config".into()), context: None };
    let (code, text) = refused(cluster).await;
    assert_eq!(code, 3);
    assert!(text.contains("no kubeconfig at /nonexistent/config") && text.contains("--kubeconfig"), "{text}");
}

#[tokio::test]
async fn a_kubeconfig_that_is_not_yaml() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    std::fs::write(&path, "clusters: [").unwrap();
    let (code, text) = refused(ClusterRef { kubeconfig: Some(path), context: None }).await;
    assert_eq!(code, 2);
    assert!(text.contains("not valid YAML"), "{text}");
}

#[tokio::test]
async fn an_unknown_context_lists_those_there_are() {
    let mut cluster = control_plane().cluster("admin-token");
    cluster.context = Some("prod".into());
    let (code, text) = refused(cluster).await;
    assert_eq!(code, 2);
    assert!(text.contains("no context \"prod\"") && text.contains("it has these: test"), "{text}");
}

#[tokio::test]
async fn nobody_listens() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let path = control_plane().kubeconfig("admin-token", |config| {
        config["clusters"][0]["cluster"]["server"] = json!(format!("https://127.0.0.1:{port}"));
    });
    let (code, text) = refused(ClusterRef { kubeconfig: Some(path), context: None }).await;
    assert_eq!(code, 1);
    assert!(text.contains("is not running") && text.contains(&port.to_string()), "{text}");
}

#[tokio::test]
async fn a_server_that_never_answers() {
    // Takes connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("https://{}", listener.local_addr().unwrap());
    let path = control_plane().kubeconfig("admin-token", |config| {
        config["clusters"][0]["cluster"]["server"] = json!(server);
    });
    let (code, text) = refused(ClusterRef { kubeconfig: Some(path), context: None }).await;
    assert_eq!(code, 5);
    assert!(text.contains("does not answer within 10 s"), "{text}");
}

#[tokio::test]
async fn a_host_name_that_does_not_resolve() {
    let path = control_plane().kubeconfig("admin-token", |config| {
        config["clusters"][0]["cluster"]["server"] = json!("https://no-such-host.invalid:6443");
    });
    let (code, text) = refused(ClusterRef { kubeconfig: Some(path), context: None }).await;
    assert_eq!(code, 1);
    assert!(text.contains("does not resolve"), "{text}");
}

#[tokio::test]
async fn credentials_that_are_not_accepted() {
    let (code, text) = refused(control_plane().cluster("expired-token")).await;
    assert_eq!(code, 1);
    assert!(text.contains("401 Unauthorized") && text.contains("log in again"), "{text}");
    assert!(!text.contains("expired-token"), "the token must not be shown: {text}");
}

#[tokio::test]
async fn a_certificate_of_another_authority() {
    let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.crt");
    std::fs::write(&authority, other.cert.pem()).unwrap();
    let path = control_plane().kubeconfig("admin-token", |config| {
        config["clusters"][0]["cluster"]["certificate-authority"] = json!(authority);
    });
    let (code, text) = refused(ClusterRef { kubeconfig: Some(path), context: None }).await;
    assert_eq!(code, 1);
    assert!(text.contains("is not secure") && text.contains("certificate-authority"), "{text}");
}
