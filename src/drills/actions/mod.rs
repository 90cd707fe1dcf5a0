//! What can be done to a stack, by a fault or to undo one.

pub mod nodes;
pub mod operator;
pub(crate) mod pods;
pub mod postgres;
pub(crate) mod restore;
pub(crate) mod switchover;
pub mod volumes;

use std::time::Duration;

use kube::api::{PatchParams, PostParams};

use super::target::MANAGER;
use crate::error::{Result, timed_out};

/// How long an instance may take to come or to change its role.
const INSTANCE_CHANGE: Duration = Duration::from_secs(180);

fn patch_params() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() }
}

fn post_params() -> PostParams {
    PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() }
}

/// Waits until something holds, for `limit` at most. `late` says in the error what it is that did not happen.
///
/// # Errors
/// It does not hold within the time, or can't be asked for.
pub(crate) async fn wait_until(
    limit: Duration,
    late: &str,
    mut holds: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    let all = async {
        loop {
            if holds().await? {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    tokio::time::timeout(limit, all).await.map_err(|_| timed_out(format!("{late} within {} s", limit.as_secs())))?
}
