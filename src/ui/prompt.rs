//! Questions, asked only on a terminal.

use std::io::IsTerminal;

use crate::error::{Result, failed, usage};

/// Asks before something that cannot be undone. `yes` answers for the user; off a terminal without it
/// this is an error, never a hang.
///
/// # Errors
/// Off a terminal without `yes`, or when the answer is no.
pub fn confirm(question: &str, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !on_a_terminal() {
        return Err(usage(format!("this needs a confirmation and there is no terminal to ask on: {question}"))
            .remedy("pass --yes to confirm it")
            .into());
    }
    let answer = dialoguer::Confirm::new().with_prompt(question).default(false).interact()?;
    if answer { Ok(()) } else { Err(failed("not confirmed: nothing was changed").into()) }
}

/// Whether [`confirm`] could be answered later: for commands that work for minutes before they ask.
///
/// # Errors
/// Off a terminal without `yes`.
pub fn possible(yes: bool) -> Result<()> {
    if yes || on_a_terminal() {
        return Ok(());
    }
    Err(usage("this needs a confirmation at its end and there is no terminal to ask on")
        .remedy("pass --yes to confirm it beforehand")
        .into())
}

fn on_a_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}
