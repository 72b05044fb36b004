//! The operator's own schema `jobexec`, the index on the application's table and the grants of the operator's role:
//! printed for an administrator, or applied.
//!
//! Several logins of one database share the schema, each with row security for the tables that it may UPDATE
//! (`migrations`). One that somebody else owns or has changed is not used (`trust`).

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
