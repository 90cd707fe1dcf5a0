//! The messages between `stackctl` and the two programs of the web image that it starts in the cluster.
//!
//! - [`probe`]: `user-app probe` sends the writes of a failover drill
//! - [`load`]: `user-app load` sends requests at a fixed rate
//!
//! Both sides use these types, so that a field renamed on one side alone does not compile. The bytes are a contract of
//! their own: a `stackctl` of this version may meet a web image of the version before, so that names on the wire are
//! pinned by serde's attributes, and `tests/recorded.rs` reads and writes lines that earlier programs have sent.
//!
//! There is no input or output in here: each message is one line of JSON, and how it travels is each side's own matter.

pub mod load;
pub mod probe;
