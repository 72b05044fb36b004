//! The errors of applying the schema.

use sqlx::migrate::MigrateError;

use crate::db::DbError;
use crate::db::set_up::{InvalidIndex, NoRole};

/// The reason why the schema could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The database returned an error.
    #[error(transparent)]
    Database(#[from] DbError),
    /// A migration failed.
    #[error("cannot bring the schema jobexec up to date: {0}")]
    Migrate(#[from] MigrateError),
    /// The schema exists and belongs to somebody else.
    #[error("{0}")]
    Refused(String),
    /// The table has rows that the constraint forbids.
    #[error(
        "the constraint holds for what is written from now on, but the table has rows that violate it: {0}. Repair them (the condition Consistent of the ExecutionStore counts them), then run this again"
    )]
    Violated(String),
    /// Finished executions are started again, which the trigger would reject.
    #[error(
        "{0} has rows that wait or run and have an end: executions are taken up again after they have ended, which `--with transitions` would refuse. If that is no longer done, clear their end and run this again; else leave the addition out"
    )]
    Revived(String),
    /// The additions are for an application's own tables.
    #[error(
        "there are no additions for {0}, which is a view or belongs to a job system that has an adapter: leave out --with"
    )]
    NoAdditions(String),
    /// An index is there and not valid.
    #[error(transparent)]
    InvalidIndex(#[from] InvalidIndex),
    /// The role to grant to does not exist.
    #[error(transparent)]
    NoRole(#[from] NoRole),
}
