//! The operator's own schema `jobexec`, the index on the application's table and the grants of the operator's role: applied, or
//! printed for an administrator.
//!
//! Several logins of one database share the schema. Row security limits each to the tables that it may UPDATE (`migrations`). The
//! operator does not use a schema that somebody else owns or has changed (`trust`).

mod apply;
mod availability;
mod build;
mod error;
mod grants;
mod migrations;
mod refusal;
mod state;
mod trust;

pub use apply::{apply, script};
pub use availability::{Lack, ensure, lacking, refused};
pub use error::SchemaError;
pub use refusal::Refusal;
