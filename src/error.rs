//! One error for the user: what happened, to what, why, and what to do about it.
//!
//! Inside, errors travel as [`anyhow::Error`]. Where a cause and its remedy are known, a [`Failure`]
//! is put into the chain; [`exit_code`] and the closing lines on the terminal are read from it.

use std::fmt;

/// The result of almost everything here.
pub type Result<T> = anyhow::Result<T>;

/// Why a command did not succeed; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something went wrong (exit code 1).
    Failed,
    /// The command line or the configuration is wrong (exit code 2).
    Usage,
    /// This machine lacks something (exit code 3).
    Missing,
    /// A drill's verdict is "fail" (exit code 4).
    Verdict,
    /// A deadline passed (exit code 5).
    Timeout,
    /// The user interrupted (exit code 130).
    Interrupted,
}

impl Kind {
    /// The documented exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Missing => 3,
            Kind::Verdict => 4,
            Kind::Timeout => 5,
            Kind::Interrupted => 130,
        }
    }

    /// The name used in JSON events.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Failed => "failed",
            Kind::Usage => "usage",
            Kind::Missing => "missing",
            Kind::Verdict => "verdict",
            Kind::Timeout => "timeout",
            Kind::Interrupted => "interrupted",
        }
    }
}

/// A failure whose kind is known, with remedies for the user.
#[derive(Debug)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: Kind,
    /// What happened, to what, and why; one sentence without a full stop.
    pub message: String,
    /// What to do about it, one line each; commands ready to paste where there are any.
    pub remedies: Vec<String>,
    /// Whether it is the API server's word that the user may not do this.
    pub is_forbidden: bool,
}

impl Failure {
    /// A failure of `kind`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Failure { kind, message: message.into(), remedies: Vec::new(), is_forbidden: false }
    }

    /// Adds a remedy.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedies.push(remedy.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Short forms for the kinds that are made all over.
pub fn failed(message: impl Into<String>) -> Failure {
    Failure::new(Kind::Failed, message)
}

/// A usage error (exit code 2).
pub fn usage(message: impl Into<String>) -> Failure {
    Failure::new(Kind::Usage, message)
}

/// Something is missing on this machine (exit code 3).
pub fn missing(message: impl Into<String>) -> Failure {
    Failure::new(Kind::Missing, message)
}

/// A deadline passed (exit code 5).
pub fn timed_out(message: impl Into<String>) -> Failure {
    Failure::new(Kind::Timeout, message)
}

/// The kind of an error: that of the outermost [`Failure`] in its chain, else [`Kind::Failed`].
pub fn kind_of(error: &anyhow::Error) -> Kind {
    outermost(error).map_or(Kind::Failed, |failure| failure.kind)
}

/// Every remedy in the chain, outermost first, none twice.
pub fn remedies_of(error: &anyhow::Error) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    // As in `outermost`: the chain does not reveal a Failure that is the outermost context.
    let outer = error.downcast_ref::<Failure>().into_iter();
    for failure in outer.chain(error.chain().filter_map(|cause| cause.downcast_ref::<Failure>())) {
        for remedy in &failure.remedies {
            if !all.contains(remedy) {
                all.push(remedy.clone());
            }
        }
    }
    all
}

/// Whether the API server does not let the user do what the error is about.
pub fn is_forbidden(error: &anyhow::Error) -> bool {
    let refused = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<Failure>().is_some_and(|failure| failure.is_forbidden)
            || matches!(cause.downcast_ref(), Some(kube::Error::Api(status)) if status.code == 403)
    };
    outermost(error).is_some_and(|failure| failure.is_forbidden) || error.chain().any(refused)
}

/// The chain as one line, `outer: inner: innermost`; a link that repeats its cause is left out.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if line.contains(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(text.trim_end());
    }
    line
}

fn outermost(error: &anyhow::Error) -> Option<&Failure> {
    // `anyhow` wraps a context value so that `chain()` alone does not reveal its type.
    error.downcast_ref::<Failure>().or_else(|| error.chain().find_map(|cause| cause.downcast_ref::<Failure>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn the_outermost_failure_decides_the_exit_code() {
        let inner: Result<()> = Err(missing("no Docker engine answers").remedy("start Docker").into());
        let error = inner.context("preflight failed").unwrap_err();
        assert_eq!(kind_of(&error).exit_code(), 3);
        assert_eq!(remedies_of(&error), ["start Docker"]);
        assert_eq!(one_line(&error), "preflight failed: no Docker engine answers");
        let wrapped = error.context(failed("up failed").remedy("stackctl doctor"));
        assert_eq!(remedies_of(&wrapped), ["stackctl doctor", "start Docker"]);
    }

    #[test]
    fn an_error_without_a_failure_is_exit_code_1() {
        assert_eq!(kind_of(&anyhow::anyhow!("boom")).exit_code(), 1);
    }
}
