//! The only door to the Kubernetes API.
//!
//! - [`Kube`] is the connection; [`ObjectRef`] names an object.
//! - [`apply`] writes objects, [`Inventory`] remembers which, so that what is no longer wanted is removed.
//! - [`wait_ready`] waits and says what is in the way ([`Problem`]); [`readiness`] tells what "ready" is.

mod api_error;
mod apply;
mod client;
pub mod cnpg;
mod constraints;
mod deadline;
mod delete;
pub mod diff;
mod discovery;
pub mod exec;
mod explain;
mod facts;
pub mod forward;
mod inventory;
pub mod keep_data;
mod kubeconfig;
pub mod lease;
mod live;
pub mod logs;
pub mod metrics;
mod object;
pub mod operator;
mod operator_search;
mod params;
pub mod pods;
mod policies;
pub mod prometheus;
mod proxy;
pub mod quantity;
mod readiness;
mod refusal;
mod rights;
pub mod room;
pub mod rules;
mod scale;
mod shared;
mod terminal;
pub mod volumes;
mod wait;
pub mod zones;

pub use api_error::failure as request_failure;
pub use apply::{ApplyEvent, ApplyOptions, OnApply, apply};
pub use client::Kube;
pub use delete::{DeleteEvent, OnDelete};
pub use explain::{Problem, explain};
pub use facts::{DeadWebhook, contexts, operator_in_use};
pub use inventory::Inventory;
pub use kubeconfig::{ClusterRef, server};
pub use lease::Lock;
pub use live::{Change, adopt};
pub use object::{Entry, INVENTORY, ObjectRef, to_yaml};
pub use params::{merge_params, post_params};
pub use readiness::{Readiness, is_ready, readiness};
pub use rights::Right;
pub use scale::{cpu_percent, scale};
pub use shared::{KeepReason, OtherStacks};
pub use wait::{OnWait, WaitEvent, wait_ready};
