//! The failover helper: it spares a failover the waits that are not needed once the old primary is known to be dead.
//!
//! It has no part in deciding who becomes the primary: that is the operator's. [`rules`] says what it may do, without any
//! input or output, and [`lost`] what it may do where a node is lost; [`seen`] reads Kubernetes' objects into the rules'
//! words; [`run`] watches and writes. Without it, or with it dead or frozen, a failover goes on as it does by itself.

pub mod lost;
pub mod probe;
pub mod rules;
pub mod run;
pub mod seen;
