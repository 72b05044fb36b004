//! The jobexec operator: finds stale job executions in Postgres tables, ends them, and shows their state in Kubernetes.
//!
//! Data flows one way, the same for every entry point:
//!
//! ```text
//! observe (SQL, API reads) → decide (pure) → apply (guarded SQL, server-side apply) → report (status, Events, log)
//! ```
//!
//! - `api`: the custom resources; does not depend on SQL or HTTP;
//! - `rules`: the first half of decide: policies and objects, compiled to rules (pure);
//! - `db`: all SQL; `db::judge` is the second half of decide: applies those rules to rows;
//! - `kubernetes`: calls to the API server, and caches of its objects;
//! - `sharding`: the replica that manages each store;
//! - `runtime`: the cluster side: caches, ownership, work queue, overrides that objects ask for;
//! - `session`: the open session of a store, with the rules in effect;
//! - `reconcilers`: the reconcilers, each a short pipeline that uses the rooms above;
//! - `http`: the HTTPS API, one file per endpoint;
//! - `cli`: the command line, one file per subcommand;
//! - `metrics`: counters and gauges for Prometheus;
//! - `notify`: notifications and their delivery;
//! - `net`: outgoing connections and the addresses that they may use;
//! - `secrets`: secret values, and how to keep them out of texts;
//! - `telemetry`: logs;
//! - `boundary`: contains panics; every room may use it.
//!
//! Dependencies point downwards only: `cli` → `http` → `reconcilers` → `session` → `runtime` → `sharding` → `kubernetes` →
//! `metrics` → `db` → `notify` → `rules`, `api`, `net`, `secrets`. `tests/rooms.rs` checks that.

pub mod adapters;
pub mod api;
pub mod boundary;
pub mod cli;
pub mod db;
pub mod http;
pub mod kubernetes;
pub mod metrics;
pub mod net;
pub mod notify;
pub mod reconcilers;
pub mod rules;
pub mod runtime;
pub mod secrets;
pub mod session;
pub mod sharding;
pub mod telemetry;
