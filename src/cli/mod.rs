//! The command line: types only. What they mean is in [`crate::config`] and [`crate::commands`].

mod bundle;
mod database;
mod logs;
mod parse;
mod stack;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use bundle::{BundleArgs, BundleCommand, CreateArgs, PushArgs};
pub use database::{BackupArgs, BackupCommand, RestoreArgs, SwitchoverArgs};
pub use logs::LogPart;
pub use stack::{Extra, FORGETTABLE, Optional, Size, StackArgs, UpArgs};

use crate::{
    part::{Part, Scope},
    ui::log,
};

/// Brings up a highly available web and PostgreSQL stack on Kubernetes, and proves that it survives.
#[derive(Debug, Parser)]
#[command(name = "stackctl", version, about, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
}

/// The names of the commands.
pub fn command_names() -> Vec<String> {
    use clap::CommandFactory as _;
    Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 usage, 3 something is missing on this machine, \
4 a drill's verdict is \"fail\", 5 timed out, 130 interrupted.\n\
Configuration: flags, then STACKCTL_* variables, then ~/.config/stackctl/config.toml, then what the last up of the stack \
was told, then defaults.";

/// Where things are and how they are shown.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Use this context of the kubeconfig (a cluster that you already have) instead of minikube.
    #[arg(long, global = true, value_name = "NAME", env = "STACKCTL_CONTEXT")]
    pub context: Option<String>,
    /// The kubeconfig file [default: $KUBECONFIG, then ~/.kube/config].
    #[arg(long, global = true, value_name = "FILE", env = "STACKCTL_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Name of the minikube profile [default: stackctl].
    #[arg(long, global = true, value_name = "NAME", env = "STACKCTL_PROFILE")]
    pub profile: Option<String>,
    /// Whether the profile was named nearer to the command than any context: it is the target, whatever the configuration
    /// file says.
    #[arg(skip)]
    pub profile_wins: bool,
    /// Namespace of the app and its database [default: user-app].
    #[arg(short, long, global = true, value_name = "NAME", env = "STACKCTL_NAMESPACE")]
    pub namespace: Option<String>,
    /// Configuration file [default: ~/.config/stackctl/config.toml].
    #[arg(long, global = true, value_name = "FILE", env = "STACKCTL_CONFIG")]
    pub config: Option<PathBuf>,
    /// Give up after this long, e.g. 90s, 10m [default: 15m].
    #[arg(long, global = true, value_name = "DURATION", env = "STACKCTL_TIMEOUT")]
    pub timeout: Option<String>,
    /// Output: text, or JSON for programs.
    #[arg(short, long, global = true, value_enum, default_value_t = OutputFormat::Text)]
    pub output: OutputFormat,
    /// Show problems and errors only.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Show every resource's change and what the tools print.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Write to stderr what goes on inside, to look for the cause of a fault.
    #[arg(long, global = true, value_enum, value_name = "LEVEL", env = "STACKCTL_LOG")]
    pub log: Option<log::Level>,
}

/// How results are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring the stack up, or up to date; running it again changes nothing.
    Up(UpArgs),
    /// Show every part's health; exit code 1 when something is unhealthy.
    Status(StatusArgs),
    /// Check this machine and the cluster, with a remedy for each failure.
    Doctor(SourceArgs),
    /// Compare the cluster with what `up` would apply; exit code 1 when they differ.
    Diff(StackArgs),
    /// Print the manifests that `up` would apply, or write the web image's build context.
    Render(RenderArgs),
    /// Open psql on the primary (arguments after -- go to psql).
    Psql(PsqlArgs),
    /// Print the logs of a part.
    Logs(LogsArgs),
    /// Open the web app in a browser, through a local port that stays open until Ctrl-C.
    Open(OpenArgs),
    /// Open Grafana in a browser, through a local port that stays open until Ctrl-C.
    Grafana(GrafanaArgs),
    /// Open Prometheus in a browser, through a local port that stays open until Ctrl-C.
    Prometheus(OpenArgs),
    /// Send load to the web app at a fixed rate and watch it scale out and back.
    Load(LoadArgs),
    /// Remove exactly what `up` installed.
    Down(DownArgs),
    /// Break the stack on purpose and prove that nothing acknowledged is lost (exit code 4: it is).
    FailoverDrill(DrillArgs),
    /// Make a standby the primary on purpose, before work on the primary's node for one.
    Switchover(SwitchoverArgs),
    /// Compare the drills that were run on this machine.
    DrillHistory,
    /// Take and list backups.
    Backup(BackupArgs),
    /// Restore a backup, or any moment since, into a new database beside the one that runs.
    Restore(RestoreArgs),
    /// Bring a bundle's images to where clusters find them.
    Bundle(BundleArgs),
    /// Write an archive for a bug report: states, events, logs and drills, without secrets and addresses.
    Support(SupportArgs),
    /// Print a shell completion script.
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write man pages into a folder.
    Man {
        /// The folder; made if it is not there.
        dir: PathBuf,
    },
}

/// Where tools, manifests and images come from.
#[derive(Debug, Clone, Default, Args)]
pub struct SourceArgs {
    /// Take tools, manifests and images from this bundle: no network is needed.
    #[arg(long, value_name = "DIR", env = "STACKCTL_BUNDLE")]
    pub bundle: Option<PathBuf>,
}

/// Arguments of `support`.
#[derive(Debug, Clone, Default, Args)]
pub struct SupportArgs {
    /// The archive; it must not be there yet [default: stackctl-support-TIME.tar].
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Where tools, manifests and images come from.
    #[command(flatten)]
    pub source: SourceArgs,
}

/// Arguments of `failover-drill`.
#[derive(Debug, Clone, Args)]
pub struct DrillArgs {
    /// The scenario, or `all`; --list describes them [default: primary-delete].
    #[arg(value_name = "SCENARIO", conflicts_with = "control")]
    pub scenario: Option<String>,
    /// Run the negative control: the stack is made to lose writes, and the checker must find it.
    #[arg(long)]
    pub control: bool,
    /// Describe the scenarios and change nothing.
    #[arg(long)]
    pub list: bool,
    /// How often each is run: several give a distribution.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// Writes a second, in each of the two streams.
    #[arg(long, value_name = "N", default_value_t = 50.0)]
    pub rate: f64,
    /// Fail when writes resume later than this after the fault, e.g. 20s.
    #[arg(long, value_name = "DURATION")]
    pub max_rto: Option<String>,
    /// Write the report as drill.json, drill.xml (JUnit) and drill.html into this folder.
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
}

/// Arguments of `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Keep showing it, redrawn as it changes, until Ctrl-C.
    #[arg(short, long)]
    pub watch: bool,
}

/// Arguments of `render`.
#[derive(Debug, Clone, Args)]
pub struct RenderArgs {
    /// What the stack looks like.
    #[command(flatten)]
    pub stack: StackArgs,
    /// Only these parts.
    #[arg(long = "part", value_enum, value_name = "PART")]
    pub parts: Vec<Part>,
    /// Only what is of the whole cluster, complete, for its administrators to apply; or only what is of the stack's namespace.
    #[arg(long, value_enum, value_name = "SCOPE")]
    pub scope: Option<Scope>,
    /// Write the web image's build context into this folder and print the image's name instead.
    #[arg(long, value_name = "DIR")]
    pub build_context: Option<PathBuf>,
    /// The same of the backup sidecar's image, on top of the plugin's image of this name.
    #[arg(long, num_args = 2, value_names = ["DIR", "IMAGE"], conflicts_with = "build_context")]
    pub sidecar_context: Option<Vec<String>>,
}

/// Arguments of `psql`.
#[derive(Debug, Clone, Args)]
pub struct PsqlArgs {
    /// The role: the primary, or a standby to read from.
    #[arg(long, value_enum, default_value_t = Role::Primary)]
    pub role: Role,
    /// A restored database instead of the one that the app uses.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Arguments for psql, e.g. -- -c 'select count(*) from users'.
    #[arg(last = true)]
    pub args: Vec<String>,
}

/// An instance's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// The instance that accepts writes.
    Primary,
    /// A streaming standby.
    Standby,
}

/// Arguments of `logs`.
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// The part whose logs to print.
    #[arg(value_enum, default_value_t = LogPart::Web)]
    pub part: LogPart,
    /// Keep printing as lines come, through restarts, until Ctrl-C.
    #[arg(short, long)]
    pub follow: bool,
    /// Lines from the end of each container's log.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub tail: i64,
}

/// Arguments of `open` and `prometheus`.
#[derive(Debug, Clone, Default, Args)]
pub struct OpenArgs {
    /// The local port [default: a free one].
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Do not open a browser (without a display and with -o json none is opened anyway).
    #[arg(long)]
    pub no_browser: bool,
}

/// Arguments of `grafana`.
#[derive(Debug, Clone, Default, Args)]
pub struct GrafanaArgs {
    /// The options of every command that leads to a page.
    #[command(flatten)]
    pub open: OpenArgs,
    /// Print the password, too.
    #[arg(long)]
    pub show_password: bool,
}

/// Arguments of `load`.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// Requests a second, whether the app keeps up or not.
    #[arg(long, value_name = "N", default_value_t = 400.0)]
    pub rate: f64,
    /// For how long, e.g. 90s, 5m.
    #[arg(long, value_name = "DURATION", default_value = "3m")]
    pub duration: String,
    /// Users at most at the same time, each on a connection of its own.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub users: u32,
    /// End with the load: do not send a trickle until the autoscaler has taken the additional pods away.
    #[arg(long)]
    pub no_scale_down: bool,
}

/// Arguments of `down`.
#[derive(Debug, Clone, Args)]
pub struct DownArgs {
    /// Keep the volumes; a later `up` finds the rows again.
    #[arg(long, conflicts_with = "cluster")]
    pub keep_data: bool,
    /// Delete the whole minikube cluster, and what it left on this machine.
    #[arg(long, conflicts_with = "context")]
    pub cluster: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Print what would be removed and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Where the minikube binary comes from.
    #[command(flatten)]
    pub source: SourceArgs,
}
