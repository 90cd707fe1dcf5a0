//! The names that the cluster knows the stack by, each written once. Most are stored in clusters: changing one leaves
//! what earlier versions made behind.

/// The field manager of everything that stackctl applies, and the value of [`MANAGED_BY`].
pub const FIELD_MANAGER: &str = "stackctl";
/// The field manager of the changes that a drill makes.
pub const DRILL_MANAGER: &str = "stackctl-drill";

/// The ConfigMap with the record of a running drill.
pub const DRILL_RECORD: &str = "stackctl-drill";
/// The key of the record in [`DRILL_RECORD`].
pub const DRILL_RECORD_KEY: &str = "drill";
/// CloudNativePG's annotation that stops PostgreSQL on the instances that it names.
pub const FENCING: &str = "cnpg.io/fencedInstances";

/// The label that says which program manages an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The label with an object's name, by which pods are selected.
pub const APP_NAME: &str = "app.kubernetes.io/name";

/// The web app: its Deployment, Service, HorizontalPodAutoscaler, PodDisruptionBudget, container and image, and the
/// default namespace of a stack.
pub const WEB: &str = "user-app";
/// The annotation of the Ingress or HTTPRoute of ours with the app's address for the outside.
pub const PUBLIC_URL: &str = "stackctl/url";
/// The failover helper: its part, Deployment, PodDisruptionBudget, container and service account.
pub const FAILOVER_HELPER: &str = "failover-helper";
/// The PriorityClass of the database and of what its failover needs, unless another one is asked for.
pub const PRIORITY_CLASS: &str = "stackctl-failover";
/// The copies of the stack's pull Secret, beside pods that run in another namespace than the stack's.
pub const PULL_SECRET_COPY: &str = "stackctl-pull";
/// The CloudNativePG Cluster in the manifests; one that was restored and took its place has another name.
pub const DATABASE: &str = "user-db";
/// The database in the Cluster that the app uses, and the role that owns it.
pub const APP_DATABASE: &str = "app";

/// The container of PostgreSQL in the pod of an instance.
pub const POSTGRES: &str = "postgres";
/// The label of an instance's pod with its role.
pub const INSTANCE_ROLE: &str = "cnpg.io/instanceRole";

/// The namespace of the CloudNativePG operator and of its plugins.
pub const OPERATOR_NAMESPACE: &str = "cnpg-system";
/// The operator's Deployment.
pub const OPERATOR_DEPLOYMENT: &str = "cnpg-controller-manager";
/// The value of [`APP_NAME`] of the operator's pods.
pub const OPERATOR: &str = "cloudnative-pg";

/// The namespace of Prometheus, kube-state-metrics and Grafana.
pub const MONITORING_NAMESPACE: &str = "monitoring";

/// The label selector of what is named `name`.
pub fn selector(name: &str) -> String {
    format!("{APP_NAME}={name}")
}
