//! What the stack looks like, and the arguments of `up`.

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::SourceArgs;

/// What the stack looks like.
#[derive(Debug, Clone, Default, Args)]
pub struct StackArgs {
    /// Where tools, manifests and images come from.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Push the web image here and pull it from here, e.g. registry.example.com/team (with --context).
    #[arg(long, value_name = "REGISTRY", env = "STACKCTL_REGISTRY")]
    pub registry: Option<String>,
    /// Take upstream's images from this mirror: the registry's place is taken, path, tag and digest stay. HOST=REGISTRY/PREFIX
    /// for the images of one host; several with commas between them [default: upstream's own registries].
    #[arg(long, value_name = "REGISTRY/PREFIX", env = "STACKCTL_IMAGE_MIRROR")]
    pub image_mirror: Option<String>,
    /// A Secret of type kubernetes.io/dockerconfigjson in the stack's namespace by which every pod may pull its image; it is
    /// copied to the other namespaces where pods of the stack run.
    #[arg(long, value_name = "SECRET", env = "STACKCTL_PULL_SECRET")]
    pub pull_secret: Option<String>,
    /// The PriorityClass of the database and of what its failover needs (operator, backup plugin, failover helper): one that is
    /// there, or none [default: stackctl-failover, which is made].
    #[arg(long, value_name = "CLASS", env = "STACKCTL_PRIORITY_CLASS")]
    pub priority_class: Option<String>,
    /// How large the stack is; the configuration file's table [sizes] sets single values [default: small].
    #[arg(long, value_enum, value_name = "SIZE", env = "STACKCTL_SIZE")]
    pub size: Option<Size>,
    /// PostgreSQL instances, 3 or more for synchronous replication that survives a failover [default: 3].
    #[arg(long, value_name = "N", env = "STACKCTL_INSTANCES")]
    pub instances: Option<u32>,
    /// Size of each instance's volume, e.g. 1Gi [default: 1Gi; medium: 20Gi, large: 100Gi].
    #[arg(long, value_name = "SIZE", env = "STACKCTL_STORAGE")]
    pub storage: Option<String>,
    /// StorageClass of the volumes [default: the cluster's default].
    #[arg(long, value_name = "NAME", env = "STACKCTL_STORAGE_CLASS")]
    pub storage_class: Option<String>,
    /// Back up to a bucket of your own: endpoint, bucket and a Secret in the stack's namespace with ACCESS_KEY_ID and
    /// SECRET_ACCESS_KEY [default: a store in the cluster].
    #[arg(long, value_name = "ENDPOINT,BUCKET,SECRET", env = "STACKCTL_BACKUP_S3", conflicts_with = "backup_storage")]
    pub backup_s3: Option<String>,
    /// The bucket's region, where its endpoint is in another than us-east-1.
    #[arg(long, value_name = "REGION", env = "STACKCTL_BACKUP_S3_REGION", conflicts_with = "backup_storage")]
    pub backup_s3_region: Option<String>,
    /// A Secret in the stack's namespace with the certificate (ca.crt) of the private authority that the endpoint's comes from.
    #[arg(long, value_name = "SECRET", env = "STACKCTL_BACKUP_S3_CA", conflicts_with = "backup_storage")]
    pub backup_s3_ca: Option<String>,
    /// Size of the volume of the store in the cluster [default: 5Gi; medium: 60Gi, large: 400Gi].
    #[arg(long, value_name = "SIZE", env = "STACKCTL_BACKUP_STORAGE")]
    pub backup_storage: Option<String>,
    /// How far back every moment can be restored, in days, weeks or months [default: 7d; medium: 2w, large: 4w].
    #[arg(long, value_name = "TIME", env = "STACKCTL_BACKUP_KEEP")]
    pub backup_keep: Option<String>,
    /// When base backups are taken, as cron with seconds in front, UTC [default: "0 0 3 * * *"].
    #[arg(long, value_name = "CRON", env = "STACKCTL_BACKUP_SCHEDULE")]
    pub backup_schedule: Option<String>,
    /// Serve the app to the outside under this name, by an Ingress or by a route of a Gateway.
    #[arg(long, value_name = "NAME", env = "STACKCTL_HOST")]
    pub host: Option<String>,
    /// The class of the Ingress [default: the cluster's default IngressClass, or the only one].
    #[arg(long, value_name = "NAME", env = "STACKCTL_INGRESS_CLASS", conflicts_with = "gateway")]
    pub ingress_class: Option<String>,
    /// Have the Gateway of this name lead to the app, by an HTTPRoute in place of an Ingress; TLS is the Gateway's.
    #[arg(long, value_name = "NAMESPACE/NAME", env = "STACKCTL_GATEWAY", conflicts_with_all = ["tls_secret", "tls_issuer"])]
    pub gateway: Option<String>,
    /// A Secret of type kubernetes.io/tls in the stack's namespace with the certificate for --host [default: no TLS].
    #[arg(long, value_name = "SECRET", env = "STACKCTL_TLS_SECRET", conflicts_with = "tls_issuer")]
    pub tls_secret: Option<String>,
    /// Have cert-manager's ClusterIssuer of this name issue the certificate; Issuer/NAME for one in the stack's namespace.
    #[arg(long, value_name = "[KIND/]NAME", env = "STACKCTL_TLS_ISSUER")]
    pub tls_issuer: Option<String>,
    /// The networks that the proxies in front of the app are in, e.g. 10.1.0.0/16, with commas between them: others are not
    /// believed who the client is [default: whoever comes to the port for proxies].
    #[arg(long, value_name = "NETWORK", env = "STACKCTL_TRUSTED_PROXIES")]
    pub trusted_proxies: Option<String>,
    /// Leave this part out; may be given several times.
    #[arg(long, value_enum, value_name = "PART", value_delimiter = ',', env = "STACKCTL_WITHOUT")]
    pub without: Vec<Optional>,
    /// Add this, which a stack has unasked only where it is of use; may be given several times.
    #[arg(long, value_enum, value_name = "EXTRA", value_delimiter = ',', env = "STACKCTL_WITH")]
    pub with: Vec<Extra>,
}

/// How large a stack is. What a size needs is what its pods ask for and its volumes have together, with 3 instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Size {
    /// For a laptop: 1 CPU, 2 GiB of memory and 9 GiB of disk.
    #[default]
    Small,
    /// 4 CPUs, 14 GiB of memory and 130 GiB of disk.
    Medium,
    /// 14 CPUs, 50 GiB of memory and 810 GiB of disk.
    Large,
}

/// The parts that the others do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optional {
    /// Prometheus, kube-state-metrics and Grafana.
    Monitoring,
    /// The WAL archive, base backups and their store.
    #[value(alias = "backups")]
    #[serde(alias = "backups")]
    Backup,
    /// What spares a failover the waits that are not needed.
    FailoverHelper,
    /// The NetworkPolicies that a stack gets where they are enforced.
    NetworkPolicies,
}

/// What is added to the stack where it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extra {
    /// NetworkPolicies: app, database and failover helper get through to what they need, and to nothing else.
    NetworkPolicies,
    /// User ids that the cluster gives, as OpenShift does, where it is found out.
    ArbitraryUid,
}

/// Arguments of `up`.
#[derive(Debug, Clone, Default, Args)]
pub struct UpArgs {
    /// What the stack looks like.
    #[command(flatten)]
    pub stack: StackArgs,
    /// Nodes of the minikube cluster [default: 1].
    #[arg(long, value_name = "N", env = "STACKCTL_NODES")]
    pub nodes: Option<u32>,
    /// CPUs of each minikube node [default: all].
    #[arg(long, value_name = "N", env = "STACKCTL_CPUS")]
    pub cpus: Option<u32>,
    /// Memory of each minikube node, e.g. 4Gi [default: 4Gi].
    #[arg(long, value_name = "SIZE", env = "STACKCTL_MEMORY")]
    pub memory: Option<String>,
    /// Make the cluster the current context of the kubeconfig.
    #[arg(long)]
    pub use_context: bool,
    /// Take over fields that another field manager owns.
    #[arg(long)]
    pub force_conflicts: bool,
    /// Change a stack that a newer stackctl has made.
    #[arg(long)]
    pub allow_downgrade: bool,
    /// Do not go by this option as the last up of the stack was told it, but by the configuration file or the default; may
    /// be given several times.
    #[arg(long, value_name = "OPTION", value_delimiter = ',', value_parser = FORGETTABLE)]
    pub forget: Vec<String>,
    /// Print the plan and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// The options of `up` that are remembered, and all of them.
pub const FORGETTABLE: [&str; 27] = [
    "all",
    "bundle",
    "registry",
    "image-mirror",
    "pull-secret",
    "priority-class",
    "size",
    "instances",
    "storage",
    "storage-class",
    "backup-s3",
    "backup-s3-region",
    "backup-s3-ca",
    "backup-storage",
    "backup-keep",
    "backup-schedule",
    "host",
    "ingress-class",
    "gateway",
    "tls-secret",
    "tls-issuer",
    "trusted-proxies",
    "without",
    "with",
    "nodes",
    "cpus",
    "memory",
];
