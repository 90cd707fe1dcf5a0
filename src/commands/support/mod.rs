//! `stackctl support`: one archive for a bug report, with what others need to find the fault, and without secrets, tokens,
//! addresses of users and rows of the database.

mod scrub;

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event as KubeEvent, Pod, Secret};
use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, ListParams, LogParams},
};
use serde_json::{Value, json};

use crate::{
    assets::Part,
    backup::stamp,
    checks,
    cli::{Global, SupportArgs},
    commands::configured::configured,
    config::Options,
    context::Context,
    drills::model::store::{DrillStore, Kept},
    error::{Result, failed, one_line},
    kube::{INVENTORY, Kube, ObjectRef},
    names::{MONITORING_NAMESPACE, WEB},
    status,
    ui::{self, Reporter, Style, human},
};
use scrub::{Scrubber, without_clients};

/// The lines of each container's log.
const LOG_LINES: i64 = 2000;
/// The newest drills.
const DRILLS: usize = 20;
/// What is longer, such as dashboards, is of no use.
const LARGEST_OBJECT: usize = 128 << 10;

/// The archive as it grows.
struct Archive {
    folder: String,
    tar: tar::Builder<Vec<u8>>,
    scrubber: Scrubber,
    files: usize,
}

impl Archive {
    fn new(folder: String) -> Self {
        Archive { folder, tar: tar::Builder::new(Vec::new()), scrubber: Scrubber::default(), files: 0 }
    }

    /// Adds a file, scrubbed.
    fn add(&mut self, name: &str, text: &str) -> Result<()> {
        let text = self.scrubber.scrub(text);
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(Timestamp::now().as_second()).unwrap_or(0));
        header.set_cksum();
        let path = format!("{}/{name}", self.folder);
        self.tar.append_data(&mut header, path, text.as_bytes()).with_context(|| format!("cannot archive {name}"))?;
        self.files += 1;
        Ok(())
    }

    fn add_json(&mut self, name: &str, value: &Value) -> Result<()> {
        self.add(name, &serde_json::to_string_pretty(value)?)
    }

    /// Adds an answer, or why there is none: what is missing tells something, too.
    fn add_answer(&mut self, name: &str, answer: Result<Value>) -> Result<()> {
        match answer {
            Ok(value) => self.add_json(name, &value),
            Err(error) => self.add_json(name, &json!({"error": one_line(&error)})),
        }
    }
}

/// Writes the archive; prints its path to stdout.
///
/// # Errors
/// A file that is there already or cannot be written. A cluster that does not answer is none: that is in the archive then.
pub async fn run(global: &Global, args: &SupportArgs, style: Style) -> Result<u8> {
    let config = configured(global, &Options { source: Some(&args.source), ..Options::default() })?;
    let cx = Context::new(config, Reporter::discard())?;
    let name = format!("stackctl-support-{}", stamp());
    let path = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.tar")));
    // Before the work: a file that cannot be written is told at once.
    let mut file = create(&path)?;
    let mut archive = Archive::new(name);
    let collected = cx.until_deadline("stackctl support", collect(&cx, &mut archive)).await;
    if let Err(error) = &collected {
        archive.add("incomplete.txt", &one_line(error))?;
    }
    let (files, bytes) = (archive.files, archive.tar.into_inner().context("cannot end the archive")?);
    file.write_all(&bytes)
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))?;
    if style.mode == ui::Mode::Json {
        ui::out(
            &json!({"file": path, "files": files, "bytes": bytes.len(), "complete": collected.is_ok()}).to_string(),
        );
    } else {
        ui::out(&path.display().to_string());
        let size = human::bytes(bytes.len() as u64);
        ui::err(&format!(
            "{files} files, {size}; secrets, tokens and addresses are left out. Look through it before you send it."
        ));
    }
    Ok(0)
}

fn create(path: &Path) -> Result<std::fs::File> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            failed(format!("{} is there already", path.display())).remedy("name another file").into()
        }
        _ => failed(format!("cannot write {}: {error}", path.display())).into(),
    })
}

async fn collect(cx: &Context, archive: &mut Archive) -> Result<()> {
    let config = &cx.config;
    archive.add_json(
        "about.json",
        &json!({
            "stackctl": env!("CARGO_PKG_VERSION"), "made": human::second(Timestamp::now()),
            "system": std::env::consts::OS, "machine": std::env::consts::ARCH,
        }),
    )?;
    archive.add_json("configuration.json", &json!({
        "target": config.target.describe(), "namespace": config.stack.namespace, "instances": config.stack.instances,
        "sizes": format!("{:?}", config.stack.sizes),
        "storage": config.stack.storage, "storage_class": config.stack.storage_class, "bundle": config.bundle,
        "registry": config.registry, "image_mirror": config.image_mirror.as_ref().map(ToString::to_string),
        "pull_secret": config.stack.pull_secret, "priority_class": config.stack.priority_class,
        "without": config.without.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>(),
        "backup": config.backup.as_ref().map(crate::desired::backup::describe),
        "remembered": config.last_up.flags(),
    }))?;
    drills(cx, archive)?;
    let findings = checks::run(cx, checks::all()).await;
    archive.add_json("doctor.json", &json!(findings))?;
    let kube = match cx.kube().await {
        Ok(kube) => kube,
        Err(error) => return archive.add("no-cluster.txt", &one_line(&error)),
    };
    let mut namespaces = vec![config.stack.namespace.clone(), MONITORING_NAMESPACE.to_owned()];
    if let Ok(operator) = kube.operator().await {
        namespaces.push(operator.namespace.clone());
    }
    for namespace in &namespaces {
        learn_secrets(kube, namespace, archive).await?;
    }
    archive.add_answer("status.json", status::read(cx).await.and_then(|report| Ok(serde_json::to_value(report)?)))?;
    archive.add_answer("kubernetes.json", kube.version().await.map(Value::from))?;
    objects(cx, kube, archive).await?;
    for namespace in &namespaces {
        of_namespace(kube, namespace, archive).await?;
    }
    Ok(())
}

/// The newest drills of this machine: the reports, not the ledgers.
fn drills(cx: &Context, archive: &mut Archive) -> Result<()> {
    for kept in DrillStore::new(&cx.config.folders.state).list()?.iter().rev().take(DRILLS) {
        match kept {
            Kept::Done(report) => {
                let name = report.runs.first().map_or("unnamed", |run| run.run.as_str()).to_owned();
                archive.add_json(&format!("drills/{name}.json"), &json!(report))?;
            }
            Kept::Interrupted(run) => archive.add(&format!("drills/{run}.txt"), "interrupted")?,
            Kept::Unreadable(run, error) => archive.add(&format!("drills/{run}.txt"), error)?,
        }
    }
    Ok(())
}

/// Learns what is to be left out. Who may not read Secrets gets an archive that is scrubbed by patterns alone.
async fn learn_secrets(kube: &Kube, namespace: &str, archive: &mut Archive) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(kube.client(), namespace);
    match secrets.list(&ListParams::default()).await {
        Ok(found) => found.items.iter().for_each(|secret| archive.scrubber.learn(secret)),
        Err(error) => archive.add(&format!("unread-secrets-{namespace}.txt"), &error.to_string())?,
    }
    Ok(())
}

/// What stackctl applied, as it is now; Secrets by their names alone.
async fn objects(cx: &Context, kube: &Kube, archive: &mut Archive) -> Result<()> {
    let namespace = &cx.config.stack.namespace;
    let map = kube.get(&ObjectRef::namespaced("v1", "ConfigMap", namespace, INVENTORY)).await;
    archive.add_answer("inventory.json", map.map(|map| map.map_or(Value::Null, |map| json!(without_managers(map)))))?;
    let inventory = match cx.inventory().await {
        Ok(inventory) => inventory,
        Err(error) => return archive.add("no-inventory.txt", &one_line(&error)),
    };
    for part in Part::ALL {
        for entry in inventory.entries(part.name()) {
            let object = &entry.object;
            if object.kind == "Secret" {
                continue;
            }
            let place = object.namespace.as_deref().unwrap_or("cluster");
            let name = format!("objects/{part}/{place}/{}-{}.json", object.kind, object.name.replace([':', '/'], "_"));
            let answer =
                kube.get(object).await.map(|live| live.map_or(Value::Null, |live| json!(without_managers(live))));
            match answer {
                Ok(value) if value.to_string().len() > LARGEST_OBJECT => archive.add(&name, "too long, left out")?,
                answer => archive.add_answer(&name, answer)?,
            }
        }
    }
    Ok(())
}

fn without_managers(mut object: DynamicObject) -> DynamicObject {
    object.metadata.managed_fields = None;
    object
}

/// Pods, events and logs of a namespace.
async fn of_namespace(kube: &Kube, namespace: &str, archive: &mut Archive) -> Result<()> {
    let (pods, events, all): (Api<Pod>, Api<KubeEvent>, _) =
        (Api::namespaced(kube.client(), namespace), Api::namespaced(kube.client(), namespace), ListParams::default());
    let found = events.list(&all).await.map(|list| json!(list.items)).map_err(anyhow::Error::from);
    archive.add_answer(&format!("events/{namespace}.json"), found)?;
    let found = match pods.list(&all).await {
        Ok(found) => found.items,
        Err(error) => return archive.add(&format!("pods/{namespace}.txt"), &error.to_string()),
    };
    for pod in found {
        let name = pod.name_any();
        let spec = pod.spec.clone().unwrap_or_default();
        let started = spec.init_containers.into_iter().flatten().chain(spec.containers);
        for container in started.map(|container| container.name) {
            for previous in [false, true] {
                let params = LogParams {
                    container: Some(container.clone()),
                    tail_lines: Some(LOG_LINES),
                    previous,
                    ..LogParams::default()
                };
                // A container that has not run (before) has no log: an error of the API.
                let Ok(log) = pods.logs(&name, &params).await else { continue };
                let log = if container == WEB { without_clients(&log) } else { log };
                let suffix = if previous { ".before" } else { "" };
                archive.add(&format!("logs/{namespace}/{name}.{container}{suffix}.log"), &log)?;
            }
        }
        let mut pod = pod;
        pod.metadata.managed_fields = None;
        archive.add_json(&format!("pods/{namespace}/{name}.json"), &json!(pod))?;
    }
    Ok(())
}
