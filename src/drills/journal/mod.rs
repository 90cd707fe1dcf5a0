//! The record of a running drill, in the cluster and on this machine: whoever comes after a crash finds there what
//! is to be undone.

pub mod cluster;
pub mod local;
