//! The names of the phases that commands go through.

use std::fmt;

use serde::{Serialize, Serializer};

/// A phase of a command, by which its events are told apart. The names are promised: programs read them in JSON events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PhaseId {
    /// The checks before anything is changed.
    Preflight,
    /// Building the web image on this machine.
    Build,
    /// The Kubernetes cluster.
    Cluster,
    /// Putting the web image where the cluster finds it.
    Image,
    /// Building the backup sidecar's image on this machine.
    SidecarBuild,
    /// Putting the backup sidecar's image where the cluster finds it.
    SidecarImage,
    /// The stack's namespace and lock.
    Claim,
    /// Removing the stack's namespace.
    Base,
    /// The CloudNativePG operator.
    Operator,
    /// Backups.
    Backup,
    /// The database.
    Database,
    /// The failover helper.
    FailoverHelper,
    /// metrics-server.
    Autoscaling,
    /// The web app.
    Web,
    /// Prometheus, kube-state-metrics and Grafana.
    Monitoring,
    /// Removing restored databases.
    Restored,
    /// Making a bundle.
    Bundle,
    /// Pushing a bundle's images to a registry.
    Push,
    /// Asking the parts themselves whether they work.
    Verify,
    /// A load test.
    Load,
    /// A failover drill.
    Drill,
    /// A scenario of failover drills, by its id: the plan of a drill names it.
    Scenario(&'static str),
    /// A restore.
    Restore,
    /// A switchover.
    Switchover,
    /// Reaching the web app.
    Open,
    /// Reaching Grafana.
    Grafana,
    /// Reaching Prometheus.
    Prometheus,
}

impl PhaseId {
    /// The name in events and logs.
    pub const fn name(self) -> &'static str {
        match self {
            PhaseId::Preflight => "preflight",
            PhaseId::Build => "build",
            PhaseId::Cluster => "cluster",
            PhaseId::Image => "image",
            PhaseId::SidecarBuild => "sidecar-build",
            PhaseId::SidecarImage => "sidecar-image",
            PhaseId::Claim => "claim",
            PhaseId::Base => "base",
            PhaseId::Operator => "operator",
            PhaseId::Backup => "backup",
            PhaseId::Database => "database",
            PhaseId::FailoverHelper => "failover-helper",
            PhaseId::Autoscaling => "autoscaling",
            PhaseId::Web => "web",
            PhaseId::Monitoring => "monitoring",
            PhaseId::Restored => "restored",
            PhaseId::Bundle => "bundle",
            PhaseId::Push => "push",
            PhaseId::Verify => "verify",
            PhaseId::Load => "load",
            PhaseId::Drill => "drill",
            PhaseId::Scenario(id) => id,
            PhaseId::Restore => "restore",
            PhaseId::Switchover => "switchover",
            PhaseId::Open => "open",
            PhaseId::Grafana => "grafana",
            PhaseId::Prometheus => "prometheus",
        }
    }
}

impl Serialize for PhaseId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Display for PhaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests read what was written.
    impl<'de> serde::Deserialize<'de> for PhaseId {
        fn deserialize<D: serde::Deserializer<'de>>(name: D) -> Result<Self, D::Error> {
            let name = String::deserialize(name)?;
            let found = WRITTEN.into_iter().find(|phase| phase.name() == name);
            found.ok_or_else(|| serde::de::Error::custom(format!("no phase {name}")))
        }
    }

    const WRITTEN: [PhaseId; 8] = [
        PhaseId::Preflight,
        PhaseId::Build,
        PhaseId::Cluster,
        PhaseId::Claim,
        PhaseId::Autoscaling,
        PhaseId::Monitoring,
        PhaseId::Load,
        PhaseId::Restore,
    ];

    #[test]
    fn a_phase_is_its_name_in_json() {
        assert_eq!(serde_json::to_string(&PhaseId::Autoscaling).unwrap(), "\"autoscaling\"");
        assert_eq!(serde_json::to_string(&PhaseId::Scenario("primary-delete")).unwrap(), "\"primary-delete\"");
    }
}
