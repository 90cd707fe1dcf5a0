//! How changes are signed: each request that writes names the field manager that it writes for.

use kube::api::{PatchParams, PostParams};

/// The parameters of a patch that is no apply, by `manager`.
pub fn merge_params(manager: &str) -> PatchParams {
    PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() }
}

/// The parameters of a creation, by `manager`.
pub fn post_params(manager: &str) -> PostParams {
    PostParams { field_manager: Some(manager.to_owned()), ..PostParams::default() }
}
