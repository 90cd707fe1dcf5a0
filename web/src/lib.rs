//! The workload: a registry of users that rides through a database failover.
//!
//! - [`routes`]: pages and API, and [`routes::application`] that puts them together
//! - [`models`]: what comes in, parsed into types, with [`address`] and [`text`]
//! - [`store`]: the queries
//! - [`db`]: retries, deadlines, pools, and the watch over the primary
//! - [`front`]: what proxies tell of clients, and where that is believed
//! - [`gather`]: equal questions asked together
//! - [`probe`]: the writes of a failover drill, from inside the cluster
//! - [`load`]: requests at a fixed rate, from inside the cluster
//! - [`chores`]: what is done beside requests
//! - [`serve`]: from the start to the orderly end
//!
//! [`config`] tells every setting.

pub mod address;
pub mod app;
pub mod chores;
pub mod config;
pub mod db;
pub mod front;
pub mod gather;
pub mod listen;
pub mod load;
pub mod metrics;
pub mod migrations;
pub mod models;
pub mod probe;
pub mod problem;
pub mod rate;
pub mod routes;
pub mod schema;
pub mod security;
pub mod serve;
pub mod store;
pub mod text;
