//! Tests of the SQL on a Postgres of their own, without Kubernetes: `make test-sql`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod plans;
mod statements;
