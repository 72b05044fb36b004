//! Records that other tables or stores have left for a table: the time that they granted ends no execution and is not
//! lost, and records that cannot be adopted are reported and stop nothing.

mod adoption;
mod kept;

use crate::identity::rebuild;
use crate::support::{Operator, World, is, message};

/// Leaves a record of unknown ownership: its table is gone, and another store had claimed it.
async fn of_another(world: &World) {
    rebuild(world).await;
    world.sql("DROP TABLE job_executions_old; UPDATE jobexec.stores SET uid = 'other'").await;
}

/// Waits until a left-over record is reported, and returns the message.
async fn left(world: &World, operator: &Operator) -> String {
    let told =
        world.store_until(operator, |s| is(&s.conditions, "AuditAvailable", "False", "RecordsLeft")).await;
    message(&told.conditions, "AuditAvailable")
}

/// Waits until no left-over record is reported.
async fn settled(world: &World, operator: &Operator) {
    world.store_until(operator, |s| is(&s.conditions, "AuditAvailable", "True", "TablesPresent")).await;
}

/// The record that another store left after it had claimed the table for a while.
const CLAIMED_BEFORE: &str = "INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name, watched_since) \
     VALUES ('jobexec.stores'::regclass, 'job_executions'::regclass, 'public', 'job_executions', now() - interval '1 day')";
