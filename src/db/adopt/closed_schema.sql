-- Returns the schema of the table of a record if this login may not use it. $1: store id.
SELECT quote_ident(namespace.nspname)
FROM jobexec.stores AS store
JOIN pg_class AS class ON class.oid = store.table_oid
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE store.store_id = $1
  AND NOT has_schema_privilege(namespace.oid, 'USAGE')
