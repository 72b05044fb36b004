//! The rights of the login on the columns of a table.

use crate::api::identifier::Identifier;
use crate::db::catalog::{Column, Relation};
use crate::db::columns::quoted;
use crate::db::mapping::quote;

/// Reports whether the login lacks a right on one of these columns.
pub(super) fn lacks(relation: &Relation, columns: &[&Identifier], right: fn(&Column) -> bool) -> bool {
    columns.iter().any(|column| relation.columns.get(&column.0).is_some_and(|found| !right(found)))
}

/// Returns the statement that grants a right on columns.
pub(super) fn grant(right: &str, columns: &[&Identifier], table: &str, role: &str) -> String {
    format!("GRANT {right} ({}) ON {table} TO {}", quoted(columns), quote(role))
}
