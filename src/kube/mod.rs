//! The only door to the Kubernetes API.

mod client;

pub use client::{ClusterRef, Kube};
