//! Exactly the rights that the operator's role needs.

use super::super::Layout;
use super::super::mapping::{qualified, quote};
use super::super::validate::{job_columns, quoted, read_columns, write_columns};

/// The operator's tables and what its role may do with them, without which nothing is recorded. Nobody chooses the numbers
/// of stores, so the right to insert one is by column.
pub(super) const NEEDED: [(&str, &str); 7] = [
    ("_sqlx_migrations", "SELECT"),
    (
        "stores",
        "SELECT, INSERT (registry), INSERT (table_oid), INSERT (table_schema), INSERT (table_name), UPDATE",
    ),
    ("rules", "SELECT, INSERT, UPDATE, DELETE"),
    ("figures", "SELECT, INSERT, UPDATE, DELETE"),
    ("suspects", "SELECT, INSERT, DELETE"),
    ("sweeps", "SELECT, INSERT, UPDATE"),
    ("events", "SELECT, INSERT"),
];

/// The same for what recording does not need.
pub(super) const EXTRA: [(&str, &str); 5] = [
    ("samples", "SELECT, INSERT, DELETE"),
    ("events", "DELETE"),
    ("sweeps", "DELETE"),
    ("outbox", "SELECT, INSERT, DELETE"),
    ("messages", "SELECT, INSERT, UPDATE, DELETE"),
];

/// The statements that grant to `role` what the operator needs: to read the mapped columns, to write those that end an
/// execution, and its own tables.
pub(super) fn statements(layout: &Layout, role: &str) -> Vec<String> {
    let (table, role) = (&layout.table, quote(role));
    let (read, write) = (quoted(&read_columns(table)), quoted(&write_columns(table)));
    let mut grants = vec![
        format!("GRANT USAGE ON SCHEMA {}, jobexec TO {role}", quote(&table.schema.0)),
        format!("GRANT SELECT ({read}), UPDATE ({write}) ON {} TO {role}", qualified(table)),
    ];
    if let Some(jobs) = &layout.jobs {
        grants.push(format!("GRANT USAGE ON SCHEMA {} TO {role}", quote(&jobs.schema.0)));
        let columns = quoted(&job_columns(jobs));
        let (schema, name) = (quote(&jobs.schema.0), quote(&jobs.name.0));
        grants.push(format!("GRANT SELECT ({columns}) ON {schema}.{name} TO {role}"));
    }
    let own = NEEDED.iter().chain(&EXTRA);
    grants.extend(own.map(|(table, rights)| format!("GRANT {rights} ON jobexec.{table} TO {role}")));
    grants
}
