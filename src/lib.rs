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
//! - `controllers`: the reconcilers, each a short pipeline that uses the rooms above;
//! - `http`: the HTTPS API, one file per endpoint;
//! - `cli`: the command line, one file per subcommand;
//! - `metrics`: counters and gauges for Prometheus;
//! - `notify`: notifications and their delivery;
//! - `net`: outgoing connections and the addresses that they may use;
//! - `secrets`: secret values, and how to keep them out of texts;
//! - `telemetry`: logs;
//! - `boundary`: contains panics; every room may use it.
//!
//! Dependencies point downwards only: `cli` → `http` → `controllers` → `metrics`, `db` → `notify`, `rules` → `api`, `net` →
//! `secrets`.

pub mod api;
pub mod boundary;
pub mod cli;
pub mod controllers;
pub mod db;
pub mod http;
pub mod metrics;
pub mod net;
pub mod notify;
pub mod rules;
pub mod secrets;
pub mod telemetry;
