//! The owner of a table of executions.

/// The name of the role that owns the table whose schema is `$1` and whose name is `$2`.
pub(in crate::db) const OWNER: &str = "(SELECT pg_get_userbyid(c.relowner)::text FROM pg_catalog.pg_class AS c
                      JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2)";
