-- Records the present name and owner of the table of a record. $1: store id.
UPDATE jobexec.stores AS store
SET table_schema = namespace.nspname,
    table_name = class.relname,
    table_owner = pg_get_userbyid(class.relowner)
FROM pg_class AS class
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE store.store_id = $1
  AND class.oid = store.table_oid
