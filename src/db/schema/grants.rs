//! The exact privileges that the operator's role needs.

use super::super::Layout;
use super::super::columns::{insert_columns, quoted, read_columns, retry_columns, write_columns};
use super::super::extras::block;
use super::super::mapping::related;
use super::super::mapping::{literal, qualified, quote};
use crate::api::Table;

/// The operator's tables, and the privileges of its role without which nothing is recorded. No role may choose the numbers of
/// stores, so the privilege to insert a store is per column.
pub(super) const NEEDED: [(&str, &str); 9] = [
    ("_sqlx_migrations", "SELECT"),
    (
        "stores",
        "SELECT, INSERT (registry), INSERT (table_oid), INSERT (table_schema), INSERT (table_name), INSERT (table_owner), UPDATE",
    ),
    ("rules", "SELECT, INSERT, UPDATE, DELETE"),
    ("figures", "SELECT, INSERT, UPDATE, DELETE"),
    ("suspects", "SELECT, INSERT, UPDATE, DELETE"),
    ("observations", "SELECT, INSERT, UPDATE, DELETE"),
    ("retries", "SELECT, INSERT, UPDATE"),
    ("sweeps", "SELECT, INSERT, UPDATE"),
    ("events", "SELECT, INSERT"),
];

/// The privileges that recording does not need.
pub(super) const EXTRA: [(&str, &str); 7] = [
    ("stores", "DELETE"),
    ("samples", "SELECT, INSERT, DELETE"),
    ("retries", "DELETE"),
    ("events", "DELETE"),
    ("sweeps", "DELETE"),
    ("outbox", "SELECT, INSERT, DELETE"),
    ("messages", "SELECT, INSERT, UPDATE, DELETE"),
];

/// Returns the names of the operator's tables, each once.
pub(super) fn tables() -> Vec<&'static str> {
    let mut names: Vec<_> = NEEDED.iter().chain(&EXTRA).map(|(table, _)| *table).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Returns the statements that grant `role` what the operator needs: to read the mapped columns, to write the columns that end an
/// execution, and to use its own tables.
pub(super) fn statements(layout: &Layout, role: &str) -> Vec<String> {
    let (table, role) = (&layout.table, quote(role));
    let written = [write_columns(layout), retry_columns(layout)].concat();
    let (read, write) = (quoted(&read_columns(layout)), quoted(&written));
    let mut grants = vec![
        format!("GRANT USAGE ON SCHEMA {}, jobexec TO {role}", quote(&table.schema.0)),
        format!("GRANT SELECT ({read}), UPDATE ({write}) ON {} TO {role}", qualified(table)),
        versions(table, &role),
    ];
    let inserted = insert_columns(layout);
    if !inserted.is_empty() {
        let columns = quoted(&inserted);
        grants
            .push(format!("GRANT SELECT ({columns}), INSERT ({columns}) ON {} TO {role}", qualified(table)));
        grants.push(sequence(table, &role));
    }
    for other in related(layout) {
        grants.push(format!("GRANT USAGE ON SCHEMA {} TO {role}", quote(&other.schema.0)));
        let columns = quoted(&other.column_names());
        grants.push(format!("GRANT SELECT ({columns}) ON {} TO {role}", other.qualified()));
    }
    let own = NEEDED.iter().chain(&EXTRA);
    grants.extend(own.map(|(table, rights)| format!("GRANT {rights} ON jobexec.{table} TO {role}")));
    grants
}

/// Returns the grant of two columns that a view does not have: `xmax` identifies the transaction that holds a row, and `xmin` shows
/// whether the row was written since it was read.
fn versions(table: &Table, role: &str) -> String {
    let grant = format!(
        "BEGIN IF EXISTS (SELECT FROM pg_class WHERE oid = {}::regclass AND relkind <> 'v') THEN GRANT SELECT (xmax, xmin) ON {} TO {role}; \
         END IF; END",
        literal(&qualified(table)),
        qualified(table),
    );
    // A name may contain any dollar quote.
    format!("DO {}", literal(&grant))
}

/// Returns the grant on the sequence from which new rows get their ids, if there is one that is not an identity's.
fn sequence(table: &Table, role: &str) -> String {
    let grant = format!(
        "DECLARE numbers text := pg_get_serial_sequence({}, {}); BEGIN IF numbers IS NOT NULL THEN \
         EXECUTE format('GRANT USAGE ON SEQUENCE %s TO %s', numbers, {}); END IF; END",
        literal(&qualified(table)),
        literal(&table.columns.id.0),
        literal(role),
    );
    block(&grant)
}

#[cfg(test)]
mod tests {
    use super::super::build::NOTES;
    use super::super::migrations::MIGRATIONS;
    use super::tables;

    /// Returns the names that follow `start` in `sql`.
    fn named<'a>(sql: &'a str, start: &str) -> Vec<&'a str> {
        sql.split(start).skip(1).filter_map(|rest| rest.split([' ', '(']).next()).collect()
    }

    #[test]
    fn every_table_that_is_made_is_granted_looked_at_and_secured() {
        let sql = MIGRATIONS.map(|(.., sql)| sql).join("\n");
        let mut made = named(&sql, "CREATE TABLE IF NOT EXISTS jobexec.");
        made.extend(named(NOTES, "CREATE TABLE IF NOT EXISTS jobexec."));
        made.sort_unstable();
        assert_eq!(made, tables());
        let list =
            sql.split("FOREACH own IN ARRAY ARRAY[").nth(1).and_then(|rest| rest.split(']').next()).unwrap();
        let mut secured: Vec<&str> = list.split(", ").map(|name| name.trim_matches('\'')).collect();
        secured.push("_sqlx_migrations");
        secured.sort_unstable();
        assert_eq!(secured, tables());
    }
}
