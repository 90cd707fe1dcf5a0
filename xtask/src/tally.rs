//! What test programs print, counted; and Cargo, which runs them.

use anyhow::{Result, bail};

use crate::run::Run;
use crate::say::tell;
use crate::workspace;

/// Nothing here takes longer on two cores; a hang must not eat the time of the whole run.
const STEP_SECONDS: u64 = 40 * 60;

/// What one step has found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many checks have passed.
    pub passed: u32,
    /// How many have failed.
    pub failed: u32,
}

impl Tally {
    /// A step that is one check by itself, and has passed.
    pub const ONE: Self = Self { passed: 1, failed: 0 };

    /// Adds what a line of a test program's output tells, if it is its last one.
    fn count(&mut self, line: &str) {
        let Some(rest) = line.trim().strip_prefix("test result: ") else { return };
        let number = |what: &str| {
            let part = rest.split([';', '.']).map(str::trim).find_map(|part| part.strip_suffix(what));
            part.and_then(|number| number.trim().parse::<u32>().ok()).unwrap_or(0)
        };
        self.passed += number("passed");
        self.failed += number("failed");
    }
}

/// Cargo in the workspace, with the deadline of a step.
pub fn cargo(args: &[&str]) -> Run {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Run::new(program, STEP_SECONDS).dir(&workspace()).args(args)
}

/// A step whose checks are counted from what the test programs print.
///
/// # Errors
/// When one fails, or none was run.
pub fn tests(found: &mut Tally, run: Run) -> Result<()> {
    let code = run.lines(|line| {
        tell(line);
        found.count(line);
    })?;
    if code != 0 {
        bail!("tests failed: see above");
    }
    if found.passed == 0 {
        bail!("no test was run");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_test_programs_print_is_counted() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test a::b ... ok",
            "test result: ok. 33 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.18s",
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ] {
            tally.count(line);
        }
        assert_eq!(tally, Tally { passed: 37, failed: 2 });
    }

    #[test]
    fn what_a_test_says_is_not_counted() {
        let mut tally = Tally::default();
        tally.count("the last line was: test result: ok. 5 passed; 0 failed");
        assert_eq!(tally, Tally::default());
    }
}
