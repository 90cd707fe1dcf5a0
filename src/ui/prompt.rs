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
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(usage(format!("this needs a confirmation and there is no terminal to ask on: {question}"))
            .remedy("pass --yes to confirm it")
            .into());
    }
    let answer = dialoguer::Confirm::new().with_prompt(question).default(false).interact()?;
    if answer { Ok(()) } else { Err(failed("not confirmed: nothing was changed").into()) }
}
