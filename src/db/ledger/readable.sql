-- Reports whether the tables that hold extensions exist, and whether this login may read them.
SELECT count(*) = 2 AS there,
       COALESCE(
           bool_and(has_schema_privilege(namespace.oid, 'USAGE') AND has_table_privilege(class.oid, 'SELECT')),
           false) AS readable
FROM pg_class AS class
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE namespace.nspname = 'jobexec'
  AND class.relname IN ('stores', 'rules')
  AND class.relkind = 'r'
