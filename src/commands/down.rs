//! `stackctl down`: removes exactly what the inventory lists, in the opposite order.

use std::time::Instant;

use anyhow::Context as _;

use super::{interruptible, leftovers, up::local_lock};
use crate::{
    assets::Part,
    backup::restored,
    cli::{DownArgs, Global},
    commands::configured::configured,
    config::{Options, Target},
    context::Context,
    desired::backup,
    drills::journal::LocalJournal,
    error::{Result, failed, usage},
    kube::{DeleteEvent, Inventory, ObjectRef, OtherStacks, keep_data, operator_in_use},
    phases::cluster,
    progress,
    ui::{self, Event, PhaseId, Reporter, Style, prompt},
};

/// Removes the stack, or the whole minikube cluster.
///
/// # Errors
/// Not confirmed, someone else at work on the stack, or something that does not go away.
pub async fn run(global: &Global, args: &DownArgs, style: Style) -> Result<u8> {
    let began = Instant::now();
    let config = configured(global, &Options { source: Some(&args.source), ..Options::default() })?;
    if args.cluster && matches!(config.target, Target::Context(_)) {
        return Err(usage("--cluster deletes a minikube cluster that stackctl made; it never deletes one of yours")
            .remedy("leave --cluster out to remove the stack from the cluster")
            .into());
    }
    let cx = Context::new(config, Reporter::discard())?;
    let plan = interruptible(plan(&cx, args)).await?;
    if args.dry_run || !args.yes {
        show(&plan, style);
    }
    if args.dry_run {
        return Ok(0);
    }
    if plan.is_empty() {
        ui::err("there is nothing to remove");
        forget(&cx, args)?;
        return Ok(0);
    }
    prompt::confirm(&question(&cx, args), args.yes)?;

    let (reporter, screen) = ui::open(style);
    let cx = Context::new(cx.config.clone(), reporter)?;
    cx.reporter.send(Event::started("down", cx.config.target.describe()));
    let outcome = remove_locked(&cx, args).await;
    cx.unlock().await;
    let kept = if args.keep_data && outcome.is_ok() {
        vec![("kept".into(), "the volumes of the database and of its backups; stackctl up finds both again".into())]
    } else {
        Vec::new()
    };
    cx.reporter.send(Event::Finished {
        command: "down".into(),
        ok: outcome.is_ok(),
        elapsed: began.elapsed(),
        requests: cx.requests(),
        facts: kept,
        next: Vec::new(),
    });
    screen.close().await;
    outcome.map(|()| 0)
}

fn question(cx: &Context, args: &DownArgs) -> String {
    let target = cx.config.target.describe();
    match (args.cluster, args.keep_data) {
        (true, _) => format!("Delete the whole cluster of {target}, with all its data?"),
        (_, true) => {
            format!("Remove the stack from {target}, but keep the volumes of the database and of its backups?")
        }
        _ => format!("Remove the stack from {target}, with all its data?"),
    }
}

/// A part and what is removed of it.
struct DownStep {
    part: String,
    lines: Vec<String>,
    /// What stays although it is on record, each with the reason.
    kept: Vec<String>,
}

async fn plan(cx: &Context, args: &DownArgs) -> Result<Vec<DownStep>> {
    if args.cluster {
        let lines = cluster::deletion_plan(cx).await?;
        let step = DownStep { part: "cluster".into(), lines, kept: Vec::new() };
        return Ok(if step.lines.is_empty() { Vec::new() } else { vec![step] });
    }
    let inventory = cx.inventory().await?;
    if args.keep_data && !inventory.entries(Part::Restored.name()).is_empty() {
        refuse_to_lose(cx).await?;
    }
    let mut others = OtherStacks::read(cx.kube().await?, &cx.config.stack.namespace).await?;
    for part in Part::ALL {
        let objects: Vec<ObjectRef> = deletable(inventory, part, args).collect();
        others.read_marks(cx.kube().await?, objects.iter()).await?;
    }
    let mut steps = Vec::new();
    for part in Part::ALL.into_iter().rev().filter(|part| !(args.keep_data && *part == Part::Base)) {
        let mut step = DownStep { part: part.name().into(), lines: Vec::new(), kept: Vec::new() };
        for object in deletable(inventory, part, args) {
            match others.keep(&object) {
                Some(reason) => step.kept.push(format!("{object}: {}", reason.why())),
                None => step.lines.push(object.to_string()),
            }
        }
        if !step.lines.is_empty() || !step.kept.is_empty() {
            steps.push(step);
        }
    }
    Ok(steps)
}

/// What the app used before was to be kept until the user says otherwise, and `--keep-data` keeps one database only.
async fn refuse_to_lose(cx: &Context) -> Result<()> {
    let current = cx.database().await?;
    let others = restored::list(cx.kube().await?, &cx.config.stack.namespace, &current).await?;
    let Some(former) = others.into_iter().find(|one| one.used_until.is_some()) else { return Ok(()) };
    Err(failed(format!("{}, which the app used before {current}, would be deleted with its volumes", former.name))
        .remedy(format!(
            "if it is no longer needed: stackctl restore --discard {}, then the same command again",
            former.name
        ))
        .into())
}

fn show(plan: &[DownStep], style: Style) {
    if style.mode == ui::Mode::Json {
        let parts: Vec<_> = plan
            .iter()
            .map(|step| serde_json::json!({"part": step.part, "remove": step.lines, "keep": step.kept}))
            .collect();
        ui::out(&serde_json::json!({"event": "plan", "parts": parts}).to_string());
        return;
    }
    for step in plan {
        ui::err(&format!("{}:", step.part));
        for line in &step.lines {
            ui::err(&format!("  - {line}"));
        }
        for line in &step.kept {
            ui::err(&format!("  kept: {line}"));
        }
    }
}

/// Removes, while no other stackctl of this machine works on the same minikube profile.
async fn remove_locked(cx: &Context, args: &DownArgs) -> Result<()> {
    let _lock = if args.cluster { Some(local_lock(&cx.config)?) } else { None };
    interruptible(cx.until_deadline("stackctl down", remove(cx, args))).await
}

/// Deletes the cluster, unless somebody is at work on the stack in it: the lock is asked for where the API answers.
async fn remove_cluster(cx: &Context) -> Result<String> {
    let namespace = ObjectRef::cluster("v1", "Namespace", &cx.config.stack.namespace);
    let there = async { Ok::<_, anyhow::Error>(cx.kube().await?.get(&namespace).await?.is_some()) };
    if there.await.unwrap_or(false) {
        cx.lock().await?;
    }
    let deleted = cluster::delete(cx).await?;
    // With the cluster goes what a drill has left in it.
    cx.forget_lock().await;
    LocalJournal::new(&cx.config.folders.state, cx.config.target.context()).remove()?;
    Ok(deleted)
}

/// Forgets what the last `up` was told of what is gone now.
fn forget(cx: &Context, args: &DownArgs) -> Result<()> {
    match (args.cluster, args.keep_data) {
        (true, _) => cx.config.last_up.forget_cluster(),
        (false, false) => cx.config.last_up.forget_stack(),
        // The next `up` is to find what was kept as it was.
        (false, true) => Ok(()),
    }
}

async fn remove(cx: &Context, args: &DownArgs) -> Result<()> {
    if args.cluster {
        in_phase(cx, PhaseId::Cluster, "Delete the minikube cluster", remove_cluster(cx)).await?;
        return forget(cx, args);
    }
    Box::pin(leftovers::undo_first(cx)).await?;
    cx.lock().await?;
    for part in Part::ALL.into_iter().rev() {
        match part {
            Part::Base if args.keep_data => {}
            // The namespace goes with the last part, and the lock in it.
            _ => in_phase(cx, part.into(), &format!("Remove {part}"), remove_part(cx, part, args)).await?,
        }
    }
    forget(cx, args)
}

async fn in_phase(cx: &Context, phase: PhaseId, title: &str, work: impl Future<Output = Result<String>>) -> Result<()> {
    let began = Instant::now();
    cx.reporter.send(Event::PhaseStarted { phase, title: title.into() });
    let outcome = work.await;
    cx.reporter.send(Event::phase_ended(phase, title, outcome.as_ref().cloned(), began.elapsed()));
    outcome.map(drop).with_context(|| format!("{title} failed"))
}

async fn remove_part(cx: &Context, part: Part, args: &DownArgs) -> Result<String> {
    let kube = cx.kube().await?;
    let inventory = cx.inventory().await?;
    if inventory.entries(part.name()).is_empty() {
        return Ok("nothing there".into());
    }
    if part == Part::Operator
        && let Some(others) = operator_in_use(kube).await?
    {
        // Its CRDs hold other people's databases: deleting them would delete those.
        let text = format!("the operator is kept: it also runs {others}");
        cx.reporter.send(Event::Warning { phase: part.into(), text });
        return Ok("kept".into());
    }
    if part == Part::Database && args.keep_data {
        let told = |text: &str| cx.doing(part.into(), text);
        keep_data::release_volumes(kube, &cx.config.stack.namespace, &cx.database().await?, cx.deadline, &told).await?;
    }
    let told = |event: DeleteEvent| cx.reporter.send(progress::deletion(part.into(), event));
    let keep = |object: &ObjectRef| args.keep_data && part == Part::Backup && backup::is_data(object);
    let gone = inventory.delete(part.name(), &keep, cx.deadline, &told).await?;
    Ok(format!("{} removed", gone.len()))
}

/// What of `part` is ours to remove, in the order of removal.
fn deletable(inventory: &Inventory, part: Part, args: &DownArgs) -> impl Iterator<Item = ObjectRef> {
    let keeps = args.keep_data && part == Part::Backup;
    let ours = inventory.entries(part.name()).into_iter().rev().filter(|entry| !entry.adopted);
    ours.map(|entry| entry.object).filter(move |object| !(keeps && backup::is_data(object)))
}
