//! What can be done to a stack, by a fault or to undo one.

pub mod loss;
pub mod nodes;
pub mod operator;
pub(crate) mod pods;
pub mod postgres;
pub(crate) mod restore;
pub mod switchover;
pub mod volumes;

use std::time::Duration;

use crate::{error::Result, poll};

/// The time within which an instance must come or change its role.
const INSTANCE_CHANGE: Duration = Duration::from_secs(180);
/// The time between one look and the next.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Waits until something holds, for `limit` at most. `late` says in the error what it is that did not happen.
///
/// # Errors
/// It does not hold within the time, or can't be asked for.
pub(crate) async fn wait_until<Asked: Future<Output = Result<bool>>>(
    limit: Duration,
    late: &str,
    mut holds: impl FnMut() -> Asked,
) -> Result<()> {
    let holds = || {
        let asked = holds();
        async { Ok(asked.await?.then_some(())) }
    };
    poll::until(limit, LOOK_EVERY, late, holds).await
}
