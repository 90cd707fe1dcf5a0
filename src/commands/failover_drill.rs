//! `stackctl failover-drill`: runs drills and passes a verdict on them.

use std::time::{Duration, Instant};

use super::signal;
use crate::{
    backup,
    cli::{DrillArgs, Global, OutputFormat},
    commands::configured::configured,
    config::{Options, parse_duration},
    context::Context,
    drills::{
        environment,
        journal::{DrillRecord, Journal, LocalJournal},
        model::{
            report::{DrillReport, distribution, summary},
            requirement::ClusterCapabilities,
            store::{DrillStore, publish},
        },
        preconditions::{ensure_drillable, wait_until_drillable},
        runner::{DrillOptions, Runner},
        scenarios::{ALL, Scenario, Text},
        target::{CurrentDatabase, DrillTarget},
        undo::Undo,
    },
    error::{Failure, Kind, Result, failed, kind_of, one_line, remedies_of, usage},
    poll::until_ok,
    ui::{self, Event, PhaseId, Style, prompt},
};

/// How long an API server may take to answer again after it was brought back.
const API_IS_BACK: Duration = Duration::from_secs(90);

/// Runs the command.
///
/// # Errors
/// A verdict of "fail" (exit code 4); what kept a drill from running; an interruption (exit code 130), after
/// the fault was undone.
pub async fn run(global: &Global, args: &DrillArgs, style: Style) -> Result<u8> {
    if args.list {
        ui::out(&list());
        return Ok(0);
    }
    let chosen = choose(args)?;
    let max_rto = args.max_rto.as_deref().map(|text| parse_duration("--max-rto", text)).transpose()?;
    if !(args.rate > 0.0 && args.rate <= 1000.0) {
        return Err(usage(format!("--rate {} is out of range: more than 0, 1000 at most", args.rate)).into());
    }
    let config = configured(global, &Options::default())?;
    let (reporter, screen) = ui::open(style);
    let cx = Context::new(config, reporter)?;
    let options = DrillOptions { rate: args.rate, max_rto };
    let outcome = match begin(&cx).await {
        Ok(()) => drill_and_undo(&cx, args, &chosen, &options).await,
        // Someone else's drill may be running: what is in the cluster is theirs to undo.
        Err(error) => Err(error),
    };
    cx.unlock().await;
    screen.close().await;
    let report = outcome?;
    show(&report, global, args)?;
    if report.pass() {
        return Ok(0);
    }
    let failed = report.runs.iter().filter(|run| !run.pass).count();
    Err(Failure::new(Kind::Verdict, format!("{failed} of {} drills failed", report.runs.len())).into())
}

/// Takes the lock. A drill of this machine that was killed may still hold it for some seconds, and what it left
/// may be what keeps the API from answering.
async fn begin(cx: &Context) -> Result<()> {
    let first = cx.lock().await;
    if first.is_ok() || !local_journal(cx).undo_without_api_server().await? {
        return first;
    }
    let text = "a drill of this machine was killed: waiting for its lock to expire, and for the API server";
    cx.reporter.send(Event::Warning { phase: PhaseId::Drill, text: text.into() });
    let late = "the lock of the drill that was killed does not expire";
    until_ok(API_IS_BACK, Duration::from_secs(2), late, || async { cx.lock().await }).await
}

fn local_journal(cx: &Context) -> LocalJournal {
    LocalJournal::new(&cx.config.folders.state, cx.config.target.context())
}

fn choose(args: &DrillArgs) -> Result<Vec<&'static Scenario>> {
    let wanted = match (&args.scenario, args.control) {
        (_, true) => "control",
        (Some(name), false) => name,
        (None, false) => ALL[0].id,
    };
    if wanted == "all" {
        return Ok(ALL.to_vec());
    }
    let found = ALL.iter().copied().find(|scenario| scenario.id == wanted);
    let names = || ALL.iter().map(|scenario| scenario.id).collect::<Vec<_>>().join(", ");
    let found =
        found.ok_or_else(|| usage(format!("there is no scenario {wanted:?}")).remedy(format!("{}, all", names())))?;
    Ok(vec![found])
}

fn list() -> String {
    let line = |s: &&Scenario| {
        let Text { does, must, undone, .. } = s.text;
        format!("{}\n  does    {does}\n  must    {must}\n  undone  {undone}\n  runs on {}\n", s.id, s.requires.title())
    };
    ALL.iter().map(line).collect::<Vec<_>>().join("\n")
}

async fn drill_and_undo(
    cx: &Context,
    args: &DrillArgs,
    chosen: &[&'static Scenario],
    options: &DrillOptions,
) -> Result<DrillReport> {
    let namespace = cx.config.stack.namespace.clone();
    let database = CurrentDatabase::new(cx.database().await?);
    let target = DrillTarget { kube: cx.kube().await?.clone(), namespace, database };
    let journal =
        Journal { target, config: cx.config.clone(), local: local_journal(cx), reporter: cx.reporter.clone() };
    let outcome = tokio::select! {
        outcome = drill(cx, &journal, args, chosen, options) => outcome,
        name = signal() => {
            let warned = tell_undoing(cx, &journal, name);
            let interrupted = Err(Failure::new(Kind::Interrupted, format!("interrupted ({name})")).into());
            return and_undo(cx, &journal, interrupted, warned).await;
        }
        by = cx.lock_lost() => {
            // Whoever has the lock now undoes the drill before anything else; two at it at once would meet each other's
            // work. Only what may be in the way of that is undone here: it needs no API server.
            let undone = journal.local.undo_without_api_server().await;
            return both(Err(lock_lost(&by).into()), undone);
        }
    };
    and_undo(cx, &journal, outcome, false).await
}

/// Whatever the outcome: a drill never leaves a fault behind.
async fn and_undo(cx: &Context, journal: &Journal, outcome: Result<DrillReport>, warned: bool) -> Result<DrillReport> {
    let undone = undo_to_the_end(cx, journal, warned).await;
    if let (Err(_), Ok(Some(left))) = (&outcome, &undone) {
        warn_if_wal_may_be_missing(cx, &journal.target, left).await;
    }
    both(outcome, undone)
}

fn lock_lost(by: &str) -> Failure {
    failed(format!("the drill was stopped: the API server was out of reach for so long that {by} took over"))
        .remedy("wait until that one is done, then run the same command again")
}

/// What came of a drill and of undoing it: neither hides the other's failure.
fn both<T, U>(outcome: Result<T>, undone: Result<U>) -> Result<T> {
    match (outcome, undone) {
        (Ok(value), Ok(_)) => Ok(value),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        (Err(drill), Err(undo)) => {
            let mut failure =
                Failure::new(kind_of(&drill), format!("{}; and then: {}", one_line(&drill), one_line(&undo)));
            failure.remedies = remedies_of(&undo);
            for remedy in remedies_of(&drill) {
                if !failure.remedies.contains(&remedy) {
                    failure.remedies.push(remedy);
                }
            }
            Err(failure.into())
        }
    }
}

/// Undoes what the drill has changed. The first signal, which may have ended the drill itself (`warned`), is answered with
/// what is being undone, the second ends it.
async fn undo_to_the_end(cx: &Context, journal: &Journal, mut warned: bool) -> Result<Option<DrillRecord>> {
    let undoing = journal.recover();
    tokio::pin!(undoing);
    loop {
        tokio::select! {
            undone = &mut undoing => return undone,
            name = signal() => {
                if warned {
                    return Err(ended_while_undoing(journal, name, &left(journal)).into());
                }
                warned = tell_undoing(cx, journal, name);
            }
        }
    }
}

/// Says what is being undone; returns whether there is anything.
fn tell_undoing(cx: &Context, journal: &Journal, signal: &str) -> bool {
    if !journal.local.path().exists() {
        return false;
    }
    let left = left(journal);
    let text =
        format!("{signal}: the drill is being undone ({left}); a second Ctrl-C ends that and leaves the stack broken");
    cx.reporter.send(Event::Warning { phase: PhaseId::Drill, text });
    true
}

/// What is to be undone, in words.
fn left(journal: &Journal) -> String {
    let changes = journal.local.changes().unwrap_or_default();
    let words: Vec<String> = changes.iter().rev().map(Undo::describe).collect();
    if words.is_empty() { "the prober and its rows are removed".into() } else { words.join("; ") }
}

fn ended_while_undoing(journal: &Journal, signal: &str, left: &str) -> Failure {
    let (namespace, path) = (&journal.target.namespace, journal.local.path().display());
    let why = format!("interrupted ({signal}) while the drill was being undone; left to undo: {left}");
    Failure::new(Kind::Interrupted, why)
        .remedy("stackctl failover-drill undoes it before it does anything else")
        .remedy(format!("it is recorded in ConfigMap {namespace}/stackctl-drill and in {path}"))
}

async fn drill(
    cx: &Context,
    journal: &Journal,
    args: &DrillArgs,
    chosen: &[&'static Scenario],
    options: &DrillOptions,
) -> Result<DrillReport> {
    let target = &journal.target;
    target.cluster().await?;
    if let Some(left) = journal.recover().await? {
        let text = format!("what the interrupted drill {} had left was undone", left.run);
        cx.reporter.send(Event::Warning { phase: PhaseId::Drill, text });
        warn_if_wal_may_be_missing(cx, target, &left).await;
        wait_until_drillable(target).await?;
    }
    let primary = ensure_drillable(target).await?;
    let environment = environment::describe(target, cx.config.target.describe(), &primary).await?;
    let cluster = environment::capabilities(target, &cx.config.target).await?;
    let chosen = possible(cx, chosen, &cluster)?;
    for scenario in &chosen {
        let Text { title, does, must, undone } = scenario.text;
        let steps = vec![
            match args.runs {
                1 => format!("it {does}"),
                runs => format!("it {does}, {runs} times"),
            },
            format!("must come of it: {must}"),
            format!("undone: {undone}"),
        ];
        cx.reporter.send(Event::Plan { phase: PhaseId::Scenario(scenario.id), title: title.into(), steps });
    }
    prompt::confirm(&format!("Break the stack in {} on purpose?", cx.config.target.describe()), args.yes)?;
    let store = DrillStore::new(&cx.config.folders.state);
    let runner = Runner { journal, cluster: &cluster, options, reporter: &cx.reporter };
    let mut report = DrillReport::new(environment, Vec::new());
    for scenario in &chosen {
        for _ in 0..args.runs {
            let name = format!("{}-{}", jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S"), scenario.id);
            let (title, began) = (scenario.text.title.to_owned(), Instant::now());
            cx.reporter.send(Event::PhaseStarted { phase: PhaseId::Drill, title: title.clone() });
            let run = runner.run(scenario, &name, &store.begin(&name)?).await?;
            // The verdict is kept before the rows that it was passed on are removed.
            store.keep(&name, &DrillReport::new(report.environment.clone(), vec![run.clone()]))?;
            journal.recover().await?;
            let outcome = format!("{}, {}", if run.pass { "passed" } else { "FAILED" }, run.run);
            cx.reporter.send(Event::PhaseDone { phase: PhaseId::Drill, title, outcome, elapsed: began.elapsed() });
            report.runs.push(run);
        }
    }
    Ok(report)
}

/// A drill that destroys a volume takes a base backup at its end. One that did not come to its end says so.
async fn warn_if_wal_may_be_missing(cx: &Context, target: &DrillTarget, left: &DrillRecord) {
    let lossy = ALL.iter().any(|scenario| scenario.id == left.scenario && scenario.expect.loses_wal);
    // A store that can't be asked for may be there.
    let has_store =
        || async { backup::Store::read(&target.kube, &target.namespace).await.map_or(true, |store| store.is_some()) };
    if lossy && has_store().await {
        let text = "if the drill destroyed the volume already, moments after it cannot be restored before a base \
                    backup is taken: stackctl backup create";
        cx.reporter.send(Event::Warning { phase: PhaseId::Drill, text: text.into() });
    }
}

/// Of several, those that the cluster allows; the others are named with the reason. A single one that it does
/// not allow is an error.
fn possible(
    cx: &Context,
    chosen: &[&'static Scenario],
    cluster: &ClusterCapabilities,
) -> Result<Vec<&'static Scenario>> {
    if let [scenario] = chosen
        && let Some(why) = scenario.requires.unmet(cluster)
    {
        return Err(failed(format!("{} can't run on this cluster: {why}", scenario.id))
            .remedy(format!("it runs on {}", scenario.requires.title()))
            .into());
    }
    let (skipped, possible): (Vec<&Scenario>, Vec<_>) =
        chosen.iter().partition(|scenario| scenario.requires.unmet(cluster).is_some());
    for scenario in skipped {
        let why = scenario.requires.unmet(cluster).unwrap_or_default();
        let text = format!("{} is left out: {why}", scenario.id);
        cx.reporter.send(Event::Warning { phase: PhaseId::Drill, text });
    }
    Ok(possible)
}

fn show(report: &DrillReport, global: &Global, args: &DrillArgs) -> Result<()> {
    if global.output == OutputFormat::Json {
        ui::out(&serde_json::to_string(report)?);
    } else {
        for run in &report.runs {
            ui::out(&summary(run));
            ui::out("");
        }
        let spread = distribution(&report.runs);
        if !spread.is_empty() {
            ui::out(&spread);
        }
    }
    if let Some(folder) = &args.report {
        let page = publish(folder, report)?;
        ui::err(&format!("report: {}", page.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_undo_is_told_beside_the_drills_own_failure() {
        let drill = || Err::<(), anyhow::Error>(Failure::new(Kind::Interrupted, "interrupted (SIGINT)").into());
        let undo = || Err::<(), anyhow::Error>(failed("the drill r can't be undone").remedy("try again").into());
        let told = both(drill(), undo()).unwrap_err();
        assert_eq!(one_line(&told), "interrupted (SIGINT); and then: the drill r can't be undone");
        assert_eq!((kind_of(&told), remedies_of(&told)), (Kind::Interrupted, vec!["try again".to_owned()]));
        assert_eq!(one_line(&both(drill(), Ok(())).unwrap_err()), "interrupted (SIGINT)");
        assert_eq!(one_line(&both(Ok(()), undo()).unwrap_err()), "the drill r can't be undone");
        assert!(both(Ok(()), Ok(())).is_ok());
    }
}
