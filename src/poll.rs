//! Waiting for what nothing tells of: asking again and again, with a deadline.
//!
//! [`until`] and its sisters are for a wait that only asks. One that acts as it waits, and remembers what it has done,
//! is a loop around [`Tries`].

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Failure, Result, timed_out};

/// Asks `holds` every `every` until it answers with a value, and returns that. An error of `holds` ends the wait.
///
/// # Errors
/// The first error of `holds`; a timeout that says `late`, with the limit, when it holds no sooner.
pub async fn until<T, Asked: Future<Output = Result<Option<T>>>>(
    limit: Duration,
    every: Duration,
    late: &str,
    holds: impl FnMut() -> Asked,
) -> Result<T> {
    until_or(limit, every, || timed_out(format!("{late} within {} s", limit.as_secs())), holds).await
}

/// Like [`until`], with a failure of the caller's own, which may have remedies, in the place of the timeout.
///
/// # Errors
/// The first error of `holds`; `late` when it holds no sooner.
pub async fn until_or<T, Asked: Future<Output = Result<Option<T>>>>(
    limit: Duration,
    every: Duration,
    late: impl FnOnce() -> Failure,
    mut holds: impl FnMut() -> Asked,
) -> Result<T> {
    let asking = async {
        loop {
            if let Some(value) = holds().await? {
                return Ok(value);
            }
            tokio::time::sleep(every).await;
        }
    };
    match tokio::time::timeout(limit, asking).await {
        Ok(outcome) => outcome,
        Err(_) => Err(late().into()),
    }
}

/// Tries `work` every `every` until it succeeds: for what fails for a while by its nature, as an API server that is away.
///
/// # Errors
/// The last error of `work`, with a timeout that says `late` and the limit.
pub async fn until_ok<T, Tried: Future<Output = Result<T>>>(
    limit: Duration,
    every: Duration,
    late: &str,
    mut work: impl FnMut() -> Tried,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut last = None;
    let trying = async {
        loop {
            match work().await {
                Ok(value) => return value,
                Err(error) => {
                    tracing::debug!("tried again: {error:#}");
                    last = Some(error);
                }
            }
            tokio::time::sleep(every).await;
        }
    };
    match tokio::time::timeout_at(deadline, trying).await {
        Ok(value) => Ok(value),
        Err(_) => {
            let late = timed_out(format!("{late} within {} s", limit.as_secs()));
            Err(match last {
                Some(error) => error.context(late),
                None => late.into(),
            })
        }
    }
}

/// The rhythm of a loop that tries something again and again: a pause between two tries, and a deadline.
#[derive(Debug)]
pub struct Tries {
    deadline: Instant,
    pause: Duration,
    longest: Duration,
}

impl Tries {
    /// Tries that are `every` apart, for `limit` at most.
    pub fn within(limit: Duration, every: Duration) -> Self {
        Self { deadline: Instant::now() + limit, pause: every, longest: every }
    }

    /// Tries that are `every` apart, until `deadline`.
    pub fn until(deadline: std::time::Instant, every: Duration) -> Self {
        Self { deadline: deadline.into(), pause: every, longest: every }
    }

    /// The same tries, each pause twice as long as the one before, up to `longest`.
    #[must_use]
    pub fn slower(self, longest: Duration) -> Self {
        Self { longest, ..self }
    }

    /// Gives the tries another `limit` from now: something has moved.
    pub fn begin_again(&mut self, limit: Duration) {
        self.deadline = Instant::now() + limit;
    }

    /// Pauses before the next try. False, at once, when it would come too late.
    pub async fn another(&mut self) -> bool {
        if Instant::now() + self.pause >= self.deadline {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(self.longest);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, failed, kind_of};

    const LIMIT: Duration = Duration::from_secs(5);
    const EVERY: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn it_is_asked_until_it_holds() {
        let mut asked = 0;
        let value = until(LIMIT, EVERY, "never", || {
            asked += 1;
            std::future::ready(Ok((asked == 3).then_some("done")))
        });
        assert_eq!(value.await.unwrap(), "done");
        assert_eq!(asked, 3);
    }

    #[tokio::test]
    async fn tries_slow_down_and_end_before_their_deadline() {
        let mut tries = Tries::within(LIMIT, EVERY).slower(EVERY * 4);
        let mut pauses = Vec::new();
        for _ in 0..4 {
            assert!(tries.another().await);
            pauses.push(tries.pause);
        }
        assert_eq!(pauses, [EVERY * 2, EVERY * 4, EVERY * 4, EVERY * 4]);
        let mut late = Tries::within(EVERY, LIMIT);
        let began = Instant::now();
        assert!(!late.another().await && began.elapsed() < LIMIT / 2, "at once");
        late.begin_again(LIMIT * 2);
        late.pause = EVERY;
        assert!(late.another().await, "it has been given longer");
    }

    #[tokio::test]
    async fn an_error_ends_the_wait_and_the_limit_is_a_timeout() {
        let error =
            until::<(), _>(LIMIT, EVERY, "never", || async { Err(failed("refused").into()) }).await.unwrap_err();
        assert_eq!(error.to_string(), "refused");
        let error = until::<(), _>(EVERY * 5, EVERY, "it does not come", || async { Ok(None) }).await.unwrap_err();
        assert_eq!(kind_of(&error), Kind::Timeout);
        assert_eq!(error.to_string(), "it does not come within 0 s");
    }

    #[tokio::test]
    async fn what_fails_at_first_is_tried_again_and_the_last_error_is_kept() {
        let mut tries = 0;
        let work = until_ok(LIMIT, EVERY, "never", || {
            tries += 1;
            std::future::ready(if tries < 3 { Err(failed("away").into()) } else { Ok(tries) })
        });
        assert_eq!(work.await.unwrap(), 3);
        let error = until_ok::<(), _>(EVERY * 5, EVERY, "it stays away", || async { Err(failed("away").into()) }).await;
        let error = error.unwrap_err();
        assert_eq!(kind_of(&error), Kind::Timeout);
        assert!(format!("{error:#}").ends_with("away"), "{error:#}");
    }
}
