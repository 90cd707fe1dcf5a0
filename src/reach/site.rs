//! The pages that can be reached.

use crate::{
    assets::Part,
    kube::ObjectRef,
    names::{MONITORING_NAMESPACE, WEB},
    ui::PhaseId,
};

/// A page of the stack, and what serves it.
#[derive(Debug, Clone)]
pub struct Site {
    /// The phase of its events, whose name is that of the command.
    pub phase: PhaseId,
    /// For sentences.
    pub title: &'static str,
    /// The part of the stack that it belongs to.
    pub part: Part,
    /// Where the Service is.
    pub namespace: String,
    /// The Service.
    pub service: &'static str,
    /// The Service's port.
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
            phase: PhaseId::Open,
            title: "the user app",
            part: Part::Web,
            namespace: namespace.to_owned(),
            service: WEB,
            port: 80,
            workload: ObjectRef::namespaced("apps/v1", "Deployment", namespace, WEB),
            path: "/",
            login: None,
            absent: DELETED,
        }
    }

    /// Grafana's dashboards.
    pub fn grafana() -> Site {
        Site {
            phase: PhaseId::Grafana,
            title: "Grafana",
            part: Part::Monitoring,
            namespace: MONITORING_NAMESPACE.into(),
            service: "monitoring-grafana",
            port: 80,
            workload: ObjectRef::namespaced("apps/v1", "Deployment", MONITORING_NAMESPACE, "monitoring-grafana"),
            path: "/",
            login: Some("monitoring-grafana-admin"),
            absent: (
                "it was deleted, or the bundle that the stack was brought up from has none",
                "stackctl up puts it back; where the bundle has none, without --bundle (the nodes pull the image then)",
            ),
        }
    }

    /// Prometheus' own page.
    pub fn prometheus() -> Site {
        Site {
            phase: PhaseId::Prometheus,
            title: "Prometheus",
            part: Part::Monitoring,
            namespace: MONITORING_NAMESPACE.into(),
            service: "monitoring-prometheus",
            port: 9090,
            workload: ObjectRef::namespaced("apps/v1", "StatefulSet", MONITORING_NAMESPACE, "monitoring-prometheus"),
            path: "/",
            login: None,
            absent: DELETED,
        }
    }
}
