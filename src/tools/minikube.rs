//! minikube, through its command line.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use serde::Deserialize;

use super::{
    find_in_path,
    runner::{Cmd, OnLine},
};
use crate::{
    assets,
    bundle::{cannot_write, platform},
    context::Context,
    error::{Failure, Result, failed, missing},
    fetch,
    ui::PhaseId,
};

/// The oldest minikube that knows the Kubernetes version that we ask for.
pub const OLDEST: (u32, u32) = (1, 38);

/// A minikube binary that can be used.
#[derive(Debug, Clone)]
pub struct Minikube {
    program: PathBuf,
    kubeconfig: Option<PathBuf>,
    /// E.g. `1.38.1`.
    pub version: String,
    /// Where it comes from, for the user.
    pub origin: String,
}

/// What minikube says while it works, one a line of its JSON output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A step begins.
    Step {
        /// Its number, of `total`.
        number: u32,
        /// Steps in all.
        total: u32,
        /// What it does.
        message: String,
    },
    /// Anything else that is for people.
    Note(String),
    /// What it notes in its log.
    Log(String),
    /// A download goes on.
    Progress,
    /// A complaint, or why it gives up.
    Error {
        /// The reason.
        message: String,
        /// What minikube suggests.
        advice: String,
        /// It ends with it.
        fatal: bool,
    },
}

impl Minikube {
    /// The minikube to use: the bundle's, else the one in `PATH`, else the pinned release, downloaded once.
    ///
    /// # Errors
    /// One in `PATH` that is too old, a download that fails, a bundle that was changed.
    pub async fn locate(cx: &Context, phase: PhaseId) -> Result<Minikube> {
        match Self::find(cx).await? {
            Some(minikube) => Ok(minikube),
            None => Self::at(cx, download(cx, phase).await?, "downloaded".into()).await,
        }
    }

    /// The minikube of [`Minikube::locate`], but `None` where it would have to be downloaded.
    ///
    /// # Errors
    /// As [`Minikube::locate`].
    pub async fn find(cx: &Context) -> Result<Option<Minikube>> {
        if let Some(bundle) = cx.bundle.clone() {
            let program = tokio::task::spawn_blocking(move || bundle.minikube()).await.context("stopped")??;
            return Self::at(cx, program, "bundle".into()).await.map(Some);
        }
        let Some(program) = find_in_path("minikube") else { return Ok(None) };
        let origin = program.display().to_string();
        Self::at(cx, program, origin).await.map(Some)
    }

    async fn at(cx: &Context, program: PathBuf, origin: String) -> Result<Minikube> {
        let version = version_of(&program).await?;
        check_version(&version, &origin)?;
        Ok(Minikube { program, kubeconfig: cx.config.kubeconfig.clone(), version, origin })
    }

    /// `minikube start` with these arguments.
    ///
    /// # Errors
    /// minikube's own reason, with its advice as the remedy.
    pub async fn start(
        &self,
        arguments: &[String],
        timeout: Duration,
        on: &mut (dyn FnMut(&Said) + Send),
    ) -> Result<()> {
        self.talk(
            self.command().args(["start", "--output=json", "--alsologtostderr"]).args(arguments).timeout(timeout),
            on,
        )
        .await
    }

    /// Adds a worker to the profile.
    ///
    /// # Errors
    /// minikube's own reason.
    pub async fn add_node(&self, profile: &str, timeout: Duration, on: &mut OnLine<'_>) -> Result<()> {
        let command = self.command().args(["node", "add", "--worker", "--profile", profile]).timeout(timeout);
        command.run_with(on).await.map(drop)
    }

    /// Enables an addon with these images (`Name=image`).
    ///
    /// # Errors
    /// minikube's own reason.
    pub async fn enable_addon(
        &self,
        profile: &str,
        addon: &str,
        images: Option<&str>,
        on: &mut OnLine<'_>,
    ) -> Result<()> {
        let command = self.command().args(["addons", "enable", addon, "--profile", profile]);
        let command = command.args(images.map(|images| format!("--images={images}")));
        command.timeout(Duration::from_secs(180)).run_with(on).await.map(drop)
    }

    /// Writes the profile into the kubeconfig and makes it the current context.
    ///
    /// # Errors
    /// minikube's own reason.
    pub async fn use_context(&self, profile: &str) -> Result<()> {
        self.command().args(["update-context", "--profile", profile]).run().await.map(drop)
    }

    /// Deletes the profile with its containers, volumes, network and kubeconfig entry.
    ///
    /// # Errors
    /// minikube's own reason.
    pub async fn delete(&self, profile: &str, on: &mut OnLine<'_>) -> Result<()> {
        let command = self.command().args(["delete", "--profile", profile]).timeout(Duration::from_secs(300));
        command.run_with(on).await.map(drop)
    }

    fn command(&self) -> Cmd {
        let command = Cmd::new(&self.program)
            // No question to anybody about newer versions.
            .env("MINIKUBE_WANTUPDATENOTIFICATION", "false")
            .env("MINIKUBE_IN_STYLE", "false")
            .env("MINIKUBE_SUPPRESS_DOCKER_PERFORMANCE", "true");
        match &self.kubeconfig {
            Some(path) => command.env("KUBECONFIG", path),
            None => command,
        }
    }

    async fn talk(&self, command: Cmd, on: &mut (dyn FnMut(&Said) + Send)) -> Result<()> {
        let (mut reason, mut known): (Option<Failure>, bool) = (None, false);
        let output = command
            .output_with(&mut |line| {
                let Some(said) = parse(line) else { return };
                if let Said::Error { message, advice, fatal } = &said {
                    let failure = failed(format!("minikube: {}", message.trim()));
                    let advice = advice.trim();
                    let failure = if advice.is_empty() { failure } else { failure.remedy(advice.replace('\n', " ")) };
                    // What it ends with is the cause. It complains of things that it goes on without as well.
                    if *fatal || !known {
                        known |= *fatal;
                        reason = Some(failure);
                    }
                }
                on(&said);
            })
            .await?;
        if output.status.success() {
            return Ok(());
        }
        let reason = reason.unwrap_or_else(|| failed(format!("minikube ({}) said:\n{}", output.status, output.tail())));
        Err(anyhow::Error::new(reason).context(format!("`minikube start` failed ({})", output.status)))
    }
}

/// A line of minikube's JSON output; what is not for people is nothing.
fn parse(line: &str) -> Option<Said> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        data: Data,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Data {
        message: String,
        advice: String,
        name: String,
        currentstep: String,
        totalsteps: String,
        exitcode: String,
    }
    let line = line.trim();
    if line.is_empty() {
        return None;
    }
    if let Some(text) = log_line(line) {
        // Not even a token that ends with this start is shown.
        return (!text.contains("token")).then_some(Said::Log(text));
    }
    // The log has entries of several lines, and libraries write what they like.
    let Line { kind, data } = serde_json::from_str(line).ok()?;
    match kind.strip_prefix("io.k8s.sigs.minikube.")? {
        "step" => Some(Said::Step {
            number: data.currentstep.parse().unwrap_or(0),
            total: data.totalsteps.parse().unwrap_or(0),
            message: if data.message.trim().is_empty() { data.name } else { data.message.trim().to_owned() },
        }),
        "download.progress" => Some(Said::Progress),
        "error" => Some(Said::Error { message: data.message, advice: data.advice, fatal: !data.exitcode.is_empty() }),
        "info" | "warning" if !data.message.trim().is_empty() => Some(Said::Note(data.message.trim().to_owned())),
        _ => None,
    }
}

/// The text of a line of its log, `I1124 06:20:29.309505    8040 kubeadm.go:318] text`, without colours.
fn log_line(line: &str) -> Option<String> {
    let (head, text) = line.split_once("] ")?;
    let severity = head.strip_prefix(['I', 'W', 'E', 'F'])?;
    if !severity.starts_with(|c: char| c.is_ascii_digit()) || !head.contains(".go:") {
        return None;
    }
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            // A colour: ESC [ numbers m.
            '\u{1b}' => while characters.next().is_some_and(|next| next != 'm') {},
            '\t' => plain.push(' '),
            _ if character.is_control() => {}
            _ => plain.push(character),
        }
    }
    Some(plain.trim().to_owned())
}

async fn download(cx: &Context, phase: PhaseId) -> Result<PathBuf> {
    let components = assets::components()?;
    let pinned = components.get("minikube").context("minikube is not pinned")?;
    let platform = platform();
    let download = pinned.download.iter().find(|download| download.platform == platform).ok_or_else(|| {
        missing(format!("there is no minikube for {platform} to download"))
            .remedy("install it: https://minikube.sigs.k8s.io/docs/start/")
    })?;
    cx.doing(phase, format!("downloading minikube {}", pinned.version));
    let reporter = cx.reporter.clone();
    let version = pinned.version.clone();
    let last = std::sync::atomic::AtomicU64::new(0);
    let path = fetch::fetch(&cx.config.folders.cache, &download.url, &download.sha256, move |done, total| {
        let Some(percent) = total.filter(|total| *total > 0).map(|total| done * 100 / total) else { return };
        if last.swap(percent, std::sync::atomic::Ordering::Relaxed) != percent {
            let text = format!("downloading minikube {version} ({percent} %)");
            reporter.send(crate::ui::Event::Doing { phase, text });
        }
    })
    .await?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
        .map_err(|error| cannot_write(&path, &error))?;
    Ok(path)
}

async fn version_of(program: &Path) -> Result<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        minikube_version: String,
    }
    let output = Cmd::new(program).args(["version", "--output=json"]).timeout(Duration::from_secs(30)).run().await?;
    let version: Version = serde_json::from_str(output.stdout.trim()).map_err(|_| {
        missing(format!("{} does not tell its version: is it minikube?", program.display()))
            .remedy("install minikube: https://minikube.sigs.k8s.io/docs/start/")
    })?;
    Ok(version.minikube_version.trim_start_matches('v').to_owned())
}

/// # Errors
/// A version older than [`OLDEST`].
fn check_version(version: &str, origin: &str) -> Result<()> {
    let mut numbers = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found >= OLDEST {
        return Ok(());
    }
    let (major, minor) = OLDEST;
    Err(missing(format!("minikube {version} ({origin}) is too old: {major}.{minor} or newer is needed"))
        .remedy("update it: https://minikube.sigs.k8s.io/docs/start/")
        .remedy("or take it out of PATH: stackctl then downloads the release that it was tested with")
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, kind_of};

    #[test]
    fn versions() {
        for good in ["1.38.0", "1.38.1", "1.40.0-beta.1", "2.0.0"] {
            assert!(check_version(good, "PATH").is_ok(), "{good}");
        }
        for bad in ["1.37.9", "0.99.0", "", "x"] {
            assert_eq!(kind_of(&check_version(bad, "PATH").unwrap_err()), Kind::Missing, "{bad}");
        }
    }

    #[test]
    fn json_lines() {
        let step = r#"{"specversion":"1.0","type":"io.k8s.sigs.minikube.step","data":{"currentstep":"3","message":"Creating container\n","name":"Creating","totalsteps":"19"}}"#;
        assert_eq!(parse(step), Some(Said::Step { number: 3, total: 19, message: "Creating container".into() }));
        let error =
            r#"{"type":"io.k8s.sigs.minikube.error","data":{"advice":"do","exitcode":"80","message":"no","name":"X"}}"#;
        assert_eq!(parse(error), Some(Said::Error { message: "no".into(), advice: "do".into(), fatal: true }));
        let log = "I1124 06:20:29.309505    8040 kubeadm.go:318] \u{1b}[0;37m[preflight]\u{1b}[0m Pulling images";
        assert_eq!(parse(log), Some(Said::Log("[preflight] Pulling images".into())));
        assert_eq!(parse("I1124 06:20:29.3 1 x.go:1] kubeadm join --token abc"), None);
        assert_eq!(parse("apiVersion: v1"), None);
        assert_eq!(
            parse(r#"{"type":"io.k8s.sigs.minikube.download.progress","data":{"progress":"0.1"}}"#),
            Some(Said::Progress)
        );
    }
}
