//! Tests with real parts: a kube-apiserver with RBAC, a Postgres, and the real binary under its own `ServiceAccount`.
//! Each test has a namespace, a database and a database role of its own. Run them with `make test`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

mod adapters;
mod admission;
mod adopt;
mod again;
mod alerting;
mod apifaults;
mod breaker;
mod chart;
mod cli;
mod connection;
mod crash;
mod degradation;
mod docs;
mod evidence;
mod execution;
mod explain;
mod extensions;
mod extras;
mod faults;
mod filter;
mod finished_jobs;
mod grants;
mod guard;
mod ha;
mod heartbeats;
mod held;
mod history;
mod hostile;
mod http;
mod identity;
mod ladder;
mod late;
mod left;
mod manyseen;
mod never;
mod node;
mod notifications;
mod notify;
mod object_sync;
mod own;
mod page;
mod paused;
mod policies;
mod pools;
mod privilege;
mod property;
mod race;
mod retention;
mod row_timeout;
mod samples;
mod scenario;
mod schema;
mod scope;
mod selectors;
mod store;
mod story;
mod sweep;
mod table;
mod views;
mod workers;
mod workloads;
