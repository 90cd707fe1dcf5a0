//! The user's terminal while a program in a pod has it: every key goes there as it is typed.

use rustix::termios::{self, OptionalActions, Termios};

use crate::error::Result;

/// Raw mode, until it is dropped.
pub struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Switches the terminal of stdin to raw mode.
    ///
    /// # Errors
    /// stdin is no terminal.
    pub fn enter() -> Result<Self> {
        let stdin = rustix::stdio::stdin();
        let before = termios::tcgetattr(stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(stdin, OptionalActions::Now, &raw)?;
        Ok(RawTerminal { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // Fails only if the terminal is gone.
        let _ = termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Columns and rows of the terminal of stdout, if it is one.
pub fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(rustix::stdio::stdout()).ok()?;
    Some((size.ws_col, size.ws_row))
}
