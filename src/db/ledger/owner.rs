//! The owner of a table of executions.

/// The name of the role that owns the table whose schema is `$1` and whose name is `$2`.
pub(in crate::db) const OWNER: &str =
    "(SELECT pg_get_userbyid(class.relowner)::text FROM pg_catalog.pg_class AS class
      JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
      WHERE namespace.nspname = $1 AND class.relname = $2)";
