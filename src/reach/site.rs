//! The pages that can be reached.

use crate::kube::ObjectRef;

/// The namespace of Prometheus and Grafana.
const MONITORING: &str = "monitoring";

/// A page of the stack, and what serves it.
#[derive(Debug, Clone)]
pub struct Site {
    /// The command's name, which is the phase of its events.
    pub command: &'static str,
    /// For sentences.
    pub title: &'static str,
    /// The part of the stack, as the inventory names it.
    pub part: &'static str,
    /// Where the Service is.
    pub namespace: String,
    /// The Service.
    pub service: &'static str,
    /// Its port.
    pub port: u16,
    /// What runs the pods behind it.
    pub workload: ObjectRef,
    /// The path of the page.
    pub path: &'static str,
    /// The Secret with the user and the password, where one has to log in.
    pub login: Option<&'static str>,
    /// Why it may be missing though its part is installed, and what to do then.
    pub absent: (&'static str, &'static str),
}

const DELETED: (&str, &str) = ("its Service was deleted", "stackctl up puts it back");

impl Site {
    /// The web app.
    pub fn web(namespace: &str) -> Site {
        Site {
            command: "open",
            title: "the user app",
            part: "web",
            namespace: namespace.to_owned(),
            service: "user-app",
            port: 80,
            workload: ObjectRef::namespaced("apps/v1", "Deployment", namespace, "user-app"),
            path: "/",
            login: None,
            absent: DELETED,
        }
    }

    /// Grafana.
    pub fn grafana() -> Site {
        Site {
            command: "grafana",
            title: "Grafana",
            part: "monitoring",
            namespace: MONITORING.into(),
            service: "monitoring-grafana",
            port: 80,
            workload: ObjectRef::namespaced("apps/v1", "Deployment", MONITORING, "monitoring-grafana"),
            path: "/",
            login: Some("monitoring-grafana-admin"),
            absent: (
                "it was deleted, or the bundle that the stack was brought up from has none",
                "stackctl up puts it back; where the bundle has none, without --bundle (the nodes pull the image then)",
            ),
        }
    }

    /// Prometheus.
    pub fn prometheus() -> Site {
        Site {
            command: "prometheus",
            title: "Prometheus",
            part: "monitoring",
            namespace: MONITORING.into(),
            service: "monitoring-prometheus",
            port: 9090,
            workload: ObjectRef::namespaced("apps/v1", "StatefulSet", MONITORING, "monitoring-prometheus"),
            path: "/",
            login: None,
            absent: DELETED,
        }
    }
}
