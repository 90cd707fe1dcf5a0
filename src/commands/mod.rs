//! One file a command: each is a function that reads the configuration, composes phases and returns.
//! [`run`] decides how things are shown, ends a command on a signal, and prints its error.

mod backup;
mod bundle;
mod completions;
mod configured;
mod diff;
mod doctor;
mod down;
mod drill_history;
mod failover_drill;
mod grafana;
mod leftovers;
mod load;
mod logs;
mod man;
mod open;
mod prometheus;
mod psql;
mod render;
mod restore;
mod status;
mod support;
mod switchover;
mod up;

use serde_json::json;

use crate::{
    cli::{self, Cli, Command, Global, OutputFormat},
    config,
    context::Context,
    error::{self, Failure, Kind, Result},
    ui::{self, Style, Verbosity, log},
};

/// Runs the command; the number is the exit code.
pub async fn run(cli: Cli) -> u8 {
    let style = style(&cli.global);
    if let Some(level) = cli.global.log {
        log::start(level);
    }
    ui::set_target_flags(&config::target_flags(&cli.global), cli::command_names());
    let global = cli.global.clone();
    ui::set_kubectl_flags(move || config::kubectl_flags(&global));
    let outcome = dispatch(cli, style).await.and_then(|code| match ui::write_failure() {
        Some(reason) if code == 0 => Err(error::failed(format!("the output could not be written: {reason}")).into()),
        _ => Ok(code),
    });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            show(&error, style);
            error::kind_of(&error).exit_code()
        }
    }
}

async fn dispatch(cli: Cli, style: Style) -> Result<u8> {
    let global = &cli.global;
    match cli.command {
        // These two have something to undo when they are interrupted: they see to it themselves.
        Command::Up(args) => up::run(global, &args, style).await,
        Command::Down(args) => down::run(global, &args, style).await,
        Command::Status(args) => interruptible(status::run(global, &args, style)).await,
        Command::Doctor(args) => interruptible(doctor::run(global, &args, style)).await,
        Command::Diff(args) => interruptible(diff::run(global, &args, style)).await,
        Command::Render(args) => interruptible(render::run(global, &args, style)).await,
        Command::Logs(args) => interruptible(logs::run(global, &args, style)).await,
        // Ctrl-C is how these end.
        Command::Open(args) => open::run(global, &args, style).await,
        Command::Grafana(args) => grafana::run(global, &args, style).await,
        Command::Prometheus(args) => prometheus::run(global, &args, style).await,
        // It removes its pod and its users when it is interrupted.
        Command::Load(args) => load::run(global, &args, style).await,
        // psql's own Ctrl-C cancels a query: it reaches the remote psql through the terminal.
        Command::Psql(args) => psql::run(global, &args).await,
        // It undoes its fault when it is interrupted.
        Command::FailoverDrill(args) => failover_drill::run(global, &args, style).await,
        Command::DrillHistory => drill_history::run(global),
        Command::Backup(args) => backup::run(global, &args.command, style).await,
        // They give the lock back when they are interrupted.
        Command::Restore(args) => restore::run(global, &args, style).await,
        Command::Switchover(args) => switchover::run(global, &args, style).await,
        Command::Bundle(args) => bundle::run(global, &args.command, style).await,
        Command::Support(args) => interruptible(support::run(global, &args, style)).await,
        Command::Completions { shell } => completions::run(shell),
        Command::Man { dir } => man::run(&dir),
    }
}

fn style(global: &Global) -> Style {
    let verbosity = match (global.quiet, global.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    Style::detect(global.output == OutputFormat::Json, verbosity)
}

/// Runs `work` until it ends or the user interrupts: then it is dropped, and with it every process and
/// connection that it holds. What must be undone in the cluster is undone by who called this.
///
/// # Errors
/// Those of `work`, or [`Kind::Interrupted`].
pub async fn interruptible<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        result = work => result,
        name = signal() => Err(interrupted(name).into()),
    }
}

/// Does `work`, which `what` names in the error of a deadline that has passed, while nobody else changes the stack. The
/// lock is given back on every way out.
///
/// # Errors
/// Those of `work`; what an interrupted drill has left cannot be undone; someone else holds the lock; a signal.
pub async fn locked<T>(cx: &Context, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let work = async {
        Box::pin(leftovers::undo_first(cx)).await?;
        cx.lock().await?;
        work.await
    };
    let outcome = interruptible(cx.until_deadline(what, work)).await;
    cx.unlock().await;
    outcome
}

fn interrupted(signal: &str) -> Failure {
    Failure::new(Kind::Interrupted, format!("interrupted ({signal})"))
}

/// Waits for a signal that asks this process to end, and names it.
async fn signal() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        // Without handlers the signals keep their default effect, which is to end the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
        _ = hangup.recv() => "SIGHUP",
    }
}

fn show(error: &anyhow::Error, style: Style) {
    let kind = error::kind_of(error);
    let (message, remedies) = (error::one_line(error), error::remedies_of(error));
    if style.mode == ui::Mode::Json {
        let line = json!({
            "event": "error", "kind": kind.name(), "exit_code": kind.exit_code(), "message": message, "remedies": remedies,
        });
        ui::out(&ui::json_with_target(&line.to_string()));
        return;
    }
    ui::err_wrapped(&format!("error: {message}"), style);
    for remedy in remedies {
        ui::err_wrapped(&format!("  try: {remedy}"), style);
    }
}
