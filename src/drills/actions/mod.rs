//! What can be done to a stack, by a fault or to undo one.

pub mod failover;
pub mod postgres;
pub mod switchover;
pub mod volumes;
