//! `stackctl bundle`: what is done with a bundle beside bringing a stack up from it.

mod create;
mod push;

use std::time::{Duration, Instant};

use crate::{
    cli::{BundleCommand, Global},
    commands::interruptible,
    context::Context,
    error::{Result, one_line},
    tools::docker,
    ui::{Event, PhaseId, Style},
};

/// Runs one of its commands.
///
/// # Errors
/// The command's.
pub async fn run(global: &Global, command: &BundleCommand, style: Style) -> Result<u8> {
    match command {
        // They take out of the engine what they have put there when they are interrupted.
        BundleCommand::Create(args) => create::run(global, args, style).await,
        BundleCommand::Push(args) => push::run(global, args, style).await,
    }
}

/// What a command of one phase does, in words, and what it works on.
struct Task {
    phase: PhaseId,
    command: &'static str,
    target: String,
    title: String,
    /// The images that come into the engine for it.
    images: Vec<String>,
    /// What can be done when it is done: a command, and what for.
    next: (String, String),
}

/// Runs the `work` of a task, with its events; then the engine has no more names of images than before.
async fn perform(cx: &Context, task: Task, work: impl Future<Output = Result<String>>) -> Result<()> {
    let Task { phase, command, target, title, images, next } = task;
    let began = Instant::now();
    let command = command.to_owned();
    cx.reporter.send(Event::Started { command: command.clone(), target, remembered: Vec::new(), last_time: None });
    cx.reporter.send(Event::PhaseStarted { phase, title: title.clone() });
    let mut added = Vec::new();
    let all = async {
        docker::engine().await?;
        added = absent(&images).await?;
        work.await
    };
    let outcome = interruptible(Box::pin(cx.until_deadline(&format!("stackctl {command}"), all))).await;
    if let Err(error) = docker::remove_images(&added).await {
        let text = format!("images are left in this machine's engine: {}", one_line(&error));
        cx.reporter.send(Event::Warning { phase, text });
    }
    let shown = outcome.as_ref().map(Clone::clone);
    cx.reporter.send(Event::phase_ended(phase, &title, shown, began.elapsed()));
    let ok = outcome.is_ok();
    let next = if ok { vec![next] } else { Vec::new() };
    let requests = cx.requests();
    cx.reporter.send(Event::Finished { command, ok, elapsed: began.elapsed(), requests, facts: Vec::new(), next });
    outcome.map(drop)
}

/// The names that the engine does not know.
async fn absent(names: &[String]) -> Result<Vec<String>> {
    let mut absent = Vec::new();
    for name in names {
        if docker::image(name).await?.is_none() {
            absent.push(name.clone());
        }
    }
    Ok(absent)
}

/// The time that is left for a program. The command's own deadline ends the wait with a better message: this one is only
/// the backstop.
fn left(cx: &Context) -> Duration {
    cx.deadline.saturating_duration_since(Instant::now()) + Duration::from_secs(5)
}
