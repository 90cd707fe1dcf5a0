//! Why a program ends without having done what it was asked for.

/// The exit codes, which are those of every barman-cloud program. The backup plugin reads them: 1 tells it that there is
/// no such WAL, anything else that it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The store answered, and it is not there or may not be written.
    Operation = 1,
    /// The store did not answer.
    Network = 2,
    /// The command line is wrong.
    Input = 3,
    /// Anything else.
    General = 4,
}

/// The end of a run that did not do its work.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// Barman's own program is to do it; holds the reason.
    Handover(String),
    /// It cannot be done.
    Failed {
        /// The exit code.
        code: Code,
        /// What happened, for the log.
        message: String,
    },
}

impl Stop {
    /// A failure that has no exit code of its own.
    pub fn general(message: impl Into<String>) -> Self {
        Stop::Failed { code: Code::General, message: message.into() }
    }
}

/// The result of nearly everything here.
pub type Result<T> = std::result::Result<T, Stop>;
