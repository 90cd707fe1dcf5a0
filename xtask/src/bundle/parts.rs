//! Every part of a bundle, as data. A new one is an entry here and a folder under
//! `xtask/airgap/` with its pinned sources (`go.mod`, `go.sum`) or its Dockerfile.

use super::certificates;

/// The Kubernetes version that everything here serves.
pub const KUBERNETES: &str = "v1.35.4";

/// A Go program, or several of one module.
#[derive(Debug)]
pub struct GoTool {
    /// The part's name.
    pub name: &'static str,
    /// Folder under `xtask/airgap/` with `go.mod` and `go.sum`, which pin the sources.
    pub folder: &'static str,
    /// Packages to build, each with the name of the program that it becomes.
    pub programs: &'static [(&'static str, &'static str)],
    /// Build tags.
    pub tags: &'static str,
    /// Whether it is linked with C.
    pub cgo: bool,
    /// Variables to set at link time; `$V` is the module's version.
    pub set: &'static [&'static str],
}

const NO_SET: &[&str] = &[];
const KUBERNETES_SET: &[&str] = &[
    "k8s.io/component-base/version.gitVersion=$V",
    "k8s.io/component-base/version.gitMajor=1",
    "k8s.io/component-base/version.gitMinor=35",
    "k8s.io/client-go/pkg/version.gitVersion=$V",
    "k8s.io/client-go/pkg/version.gitMajor=1",
    "k8s.io/client-go/pkg/version.gitMinor=35",
];

const fn go(
    name: &'static str,
    folder: &'static str,
    programs: &'static [(&'static str, &'static str)],
    set: &'static [&'static str],
) -> GoTool {
    GoTool { name, folder, programs, tags: "", cgo: false, set }
}

/// In the order in which they are built: what images wait for first.
pub const GO_TOOLS: &[GoTool] = &[
    go("etcd", "etcd", &[("go.etcd.io/etcd/server/v3", "etcd")], NO_SET),
    go(
        "kube-apiserver",
        "kubernetes",
        &[("k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"), ("k8s.io/kubernetes/cmd/kubectl", "kubectl")],
        KUBERNETES_SET,
    ),
    go(
        "kubernetes",
        "kubernetes",
        &[
            ("k8s.io/kubernetes/cmd/kubelet", "kubelet"),
            ("k8s.io/kubernetes/cmd/kubeadm", "kubeadm"),
            ("k8s.io/kubernetes/cmd/kube-controller-manager", "kube-controller-manager"),
            ("k8s.io/kubernetes/cmd/kube-scheduler", "kube-scheduler"),
            ("k8s.io/kubernetes/cmd/kube-proxy", "kube-proxy"),
        ],
        KUBERNETES_SET,
    ),
    go(
        "crictl",
        "crictl",
        &[("sigs.k8s.io/cri-tools/cmd/crictl", "crictl")],
        &["sigs.k8s.io/cri-tools/pkg/version.Version=$V"],
    ),
    go(
        "cnpg-operator",
        "cnpg-operator",
        &[("github.com/cloudnative-pg/cloudnative-pg/cmd/manager", "manager")],
        NO_SET,
    ),
    go(
        "plugin-barman-cloud",
        "plugin-barman-cloud",
        &[("github.com/cloudnative-pg/plugin-barman-cloud/cmd/manager", "plugin-barman-cloud")],
        NO_SET,
    ),
    go("versitygw", "versitygw", &[("github.com/versity/versitygw/cmd/versitygw", "versitygw")], &["main.Version=$V"]),
    go("coredns", "coredns", &[("github.com/coredns/coredns", "coredns")], NO_SET),
    go(
        "metrics-server",
        "metrics-server",
        &[("sigs.k8s.io/metrics-server/cmd/metrics-server", "metrics-server")],
        &["k8s.io/client-go/pkg/version.gitVersion=$V", "k8s.io/component-base/version.gitVersion=$V"],
    ),
    go(
        "local-path-provisioner",
        "local-path-provisioner",
        &[("github.com/rancher/local-path-provisioner", "local-path-provisioner")],
        &["main.VERSION=$V"],
    ),
    go(
        "kube-state-metrics",
        "kube-state-metrics",
        &[("k8s.io/kube-state-metrics/v2", "kube-state-metrics")],
        &["github.com/prometheus/common/version.Version=$V"],
    ),
    GoTool {
        name: "minikube",
        folder: "minikube",
        programs: &[("k8s.io/minikube/cmd/minikube", "minikube")],
        tags: "libvirt_dlopen",
        cgo: true,
        set: &[
            "k8s.io/minikube/pkg/version.version=$V",
            "k8s.io/minikube/pkg/version.isoVersion=v1.38.0",
            "k8s.io/minikube/pkg/version.storageProvisionerVersion=v5",
        ],
    },
    go("helm", "helm", &[("helm.sh/helm/v4/cmd/helm", "helm")], &["helm.sh/helm/v4/internal/version.version=$V"]),
    go(
        "kube-network-policies",
        "kube-network-policies",
        &[("sigs.k8s.io/kube-network-policies/cmd", "kube-network-policies")],
        NO_SET,
    ),
];

/// A module that a tool is built with in a changed form: the version that it asks for is not to be had from every proxy.
#[derive(Debug)]
pub struct ChangedModule {
    /// The folder of the tool, whose `go.mod` replaces the module by `./` and the name below.
    pub tool: &'static str,
    /// Folder under `xtask/airgap/` with the `go.mod` and `go.sum` that pin what is changed, and `changes.patch`.
    pub folder: &'static str,
}

/// Every such module.
pub const CHANGED_MODULES: &[ChangedModule] = &[ChangedModule { tool: "cnpg-operator", folder: "machinery" }];

/// Programs that tests of the control plane need, and the parts that they come from.
pub const CONTROL_PLANE: &[&str] = &["etcd", "kube-apiserver", "helm"];

/// The store that tests of the WAL programs run.
pub const WAL_PROGRAMS: &[&str] = &["versitygw"];

/// What others run in a cluster, for tests of the stack beside it: a network that enforces NetworkPolicies.
pub const NEIGHBOURS: &[&str] = &["kube-network-policies"];

/// Tools that only tests and measurements use: no part of a bundle.
pub const TEST_ONLY: &[&str] = &["helm", "kube-network-policies"];

/// What an image is built on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// This Debian suite.
    Debian(&'static str),
}

/// A container image that runs in the cluster: it goes into every node.
#[derive(Debug)]
pub struct Image {
    /// The part's name.
    pub name: &'static str,
    /// Folder under `xtask/airgap/` with its Dockerfile.
    pub folder: &'static str,
    /// The image's name; `$K` is the first 12 digits of its key, `$V` the version that `version` finds.
    pub image: &'static str,
    /// What it is built on.
    pub base: Base,
    /// Programs that are put beside the Dockerfile: the part and its file.
    pub files: &'static [(&'static str, &'static str)],
    /// Build arguments beside BASE.
    pub args: &'static [(&'static str, &'static str)],
    /// How the version is found.
    pub version: Version,
    /// The image's name among the bundle's components.
    pub component: &'static str,
}

/// How a component's version is found.
#[derive(Debug, Clone, Copy)]
pub enum Version {
    /// The version of the module in this folder's `go.mod`.
    Module(&'static str),
    /// What this program in the image prints.
    Prints(&'static [&'static str]),
    /// This one.
    Is(&'static str),
}

const fn image(
    name: &'static str,
    image: &'static str,
    files: &'static [(&'static str, &'static str)],
    component: &'static str,
) -> Image {
    Image {
        name,
        folder: component,
        image,
        base: Base::Scratch,
        files,
        args: &[],
        version: Version::Module(component),
        component,
    }
}

const fn control_plane(
    name: &'static str,
    image: &'static str,
    files: &'static [(&'static str, &'static str)],
    args: &'static [(&'static str, &'static str)],
    component: &'static str,
) -> Image {
    Image {
        name,
        folder: "kubernetes",
        image,
        base: Base::Scratch,
        files,
        args,
        version: Version::Module("kubernetes"),
        component,
    }
}

/// The suite of the node and of what is built for it.
pub const NODE_SUITE: &str = "bookworm";

/// The suite of the database: the one with the major version that is pinned for clusters that reach its registry.
const OPERAND_SUITE: &str = "forky";

/// The suite of what runs beside the database.
const SIDECAR_SUITE: &str = "trixie";

/// The backup sidecar's image, on which the one with our WAL programs is built.
pub const SIDECAR: Image = Image {
    folder: "barman-sidecar",
    base: Base::Debian(SIDECAR_SUITE),
    version: Version::Module("plugin-barman-cloud"),
    ..image(
        "barman-sidecar-image",
        "stackctl.local/plugin-barman-cloud-sidecar:$V-$K",
        &[("plugin-barman-cloud", "plugin-barman-cloud"), (certificates::NAME, certificates::FILE)],
        "plugin-barman-cloud-sidecar",
    )
};

/// Every image. The names of the control plane's are those that kubeadm asks for.
pub const IMAGES: &[Image] = &[
    control_plane(
        "kube-apiserver-image",
        "registry.k8s.io/kube-apiserver:v1.35.4",
        &[("kube-apiserver", "kube-apiserver")],
        &[("BINARY", "kube-apiserver")],
        "kube-apiserver",
    ),
    control_plane(
        "kube-controller-manager-image",
        "registry.k8s.io/kube-controller-manager:v1.35.4",
        &[("kubernetes", "kube-controller-manager")],
        &[("BINARY", "kube-controller-manager")],
        "kube-controller-manager",
    ),
    control_plane(
        "kube-scheduler-image",
        "registry.k8s.io/kube-scheduler:v1.35.4",
        &[("kubernetes", "kube-scheduler")],
        &[("BINARY", "kube-scheduler")],
        "kube-scheduler",
    ),
    Image {
        base: Base::Debian(NODE_SUITE),
        folder: "kube-proxy",
        ..control_plane(
            "kube-proxy-image",
            "registry.k8s.io/kube-proxy:v1.35.4",
            &[("kubernetes", "kube-proxy")],
            &[],
            "kube-proxy",
        )
    },
    image("etcd-image", "registry.k8s.io/etcd:3.6.6-0", &[("etcd", "etcd")], "etcd"),
    image("coredns-image", "registry.k8s.io/coredns/coredns:v1.13.1", &[("coredns", "coredns")], "coredns"),
    Image {
        version: Version::Is("3.10.1"),
        ..image("pause-image", "registry.k8s.io/pause:3.10.1", &[("pause", "pause")], "pause")
    },
    image(
        "metrics-server-image",
        "registry.k8s.io/metrics-server/metrics-server:v0.9.0",
        &[("metrics-server", "metrics-server")],
        "metrics-server",
    ),
    image(
        "cnpg-operator-image",
        "ghcr.io/cloudnative-pg/cloudnative-pg:1.30.1",
        &[("cnpg-operator", "manager")],
        "cnpg-operator",
    ),
    image(
        "local-path-provisioner-image",
        "rancher/local-path-provisioner:v0.0.30",
        &[("local-path-provisioner", "local-path-provisioner")],
        "local-path-provisioner",
    ),
    Image {
        base: Base::Debian(NODE_SUITE),
        version: Version::Prints(&["busybox"]),
        ..image("busybox-image", "busybox:stable", &[], "busybox")
    },
    image(
        "plugin-barman-cloud-image",
        "ghcr.io/cloudnative-pg/plugin-barman-cloud:v0.14.0",
        &[("plugin-barman-cloud", "plugin-barman-cloud")],
        "plugin-barman-cloud",
    ),
    SIDECAR,
    Image {
        base: Base::Debian(NODE_SUITE),
        ..image("versitygw-image", "ghcr.io/versity/versitygw:v1.8.0", &[("versitygw", "versitygw")], "versitygw")
    },
    Image {
        base: Base::Debian(OPERAND_SUITE),
        version: Version::Prints(&["postgres", "--version"]),
        ..image("postgresql-image", "stackctl.local/postgresql:$V-$K", &[], "postgresql")
    },
    image(
        "kube-state-metrics-image",
        "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.18.0",
        &[("kube-state-metrics", "kube-state-metrics")],
        "kube-state-metrics",
    ),
    of_prometheus("prometheus-image", "stackctl.local/prometheus:$V-$K", &[("PROGRAM", "prometheus")]),
];

/// The program that checks Prometheus' files: tests run it, no bundle holds it.
pub const PROMTOOL: &Image =
    &of_prometheus("promtool-image", "stackctl.local/promtool:$V-$K", &[("PROGRAM", "promtool")]);

const fn of_prometheus(
    name: &'static str,
    image_name: &'static str,
    args: &'static [(&'static str, &'static str)],
) -> Image {
    Image {
        base: Base::Debian("trixie"),
        version: Version::Prints(&["dpkg-query", "--show", "prometheus"]),
        args,
        ..image(name, image_name, &[], "prometheus")
    }
}

/// A manifest of upstream's, taken from the module that its program is built from.
#[derive(Debug)]
pub struct UpstreamManifest {
    /// Folder under `xtask/airgap/` that pins the module.
    pub folder: &'static str,
    /// The file in the module.
    pub path: &'static str,
    /// The manifest's name in a bundle.
    pub name: &'static str,
    /// The component that it installs.
    pub component: &'static str,
}

/// Every manifest of upstream's.
pub const MANIFESTS: &[UpstreamManifest] = &[
    UpstreamManifest {
        folder: "cnpg-operator",
        path: "releases/cnpg-1.30.1.yaml",
        name: "cnpg-1.30.1.yaml",
        component: "cnpg-operator",
    },
    UpstreamManifest {
        folder: "plugin-barman-cloud",
        path: "manifest.yaml",
        name: "plugin-barman-cloud-0.14.0.yaml",
        component: "plugin-barman-cloud",
    },
];
