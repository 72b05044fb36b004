//! The jobexec operator: it keeps tables of job executions in Postgres true, and shows their state in Kubernetes.
//!
//! Data flows one way, the same for every entry point:
//!
//! ```text
//! observe (SQL, API reads) → decide (pure) → apply (guarded SQL, server-side apply) → report (status, Events, log)
//! ```
//!
//! - `api`: the custom resources, and nothing that knows SQL or HTTP;
//! - `rules`: decide, first half: compiles the settings of users to rules (pure);
//! - `db`: all SQL; `db::judge` is decide, second half: rows judged by those rules;
//! - `controllers`: the reconcilers, each a short pipeline over the rooms above;
//! - `http`: the HTTPS API, one file an endpoint;
//! - `cli`: the command line, one file a subcommand;
//! - `metrics`: what is counted and measured, for Prometheus;
//! - `notify`: what people are told, and the ways to deliver it;
//! - `net`: outgoing connections, and which addresses they may lead to;
//! - `secrets`: values that nobody may see, and how they are kept out of texts;
//! - `telemetry`: logs;
//! - `boundary`: keeps a panic where it happened; every room may use it.
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
