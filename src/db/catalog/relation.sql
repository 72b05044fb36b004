-- Reads a relation with its triggers, whether the login may use its schema and read the versions of its rows, and whether Postgres
-- can update it. $1: its schema, $2: its name.
SELECT class.oid,
       class.relkind::text,
       has_schema_privilege(namespace.oid, 'USAGE'),
       ARRAY(
           SELECT trigger.tgname::text
           FROM pg_trigger AS trigger
           WHERE trigger.tgrelid = class.oid
             AND trigger.tgenabled <> 'D'
       ),
       EXISTS (
           SELECT
           FROM pg_attribute AS attribute
           WHERE attribute.attrelid = class.oid
             AND attribute.attname = 'xmin'
             AND has_column_privilege(class.oid, attribute.attnum, 'SELECT')
       ),
       class.relkind <> 'v'
           -- A bit for each command; that for UPDATE is 4.
           OR pg_relation_is_updatable(class.oid, false) & 4 <> 0
           OR EXISTS (
               SELECT
               FROM pg_trigger AS trigger
               WHERE trigger.tgrelid = class.oid
                 AND trigger.tgenabled IN ('O', 'A')
                 -- The bits for INSTEAD OF and UPDATE.
                 AND trigger.tgtype & 80 = 80
           )
FROM pg_class AS class
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE namespace.nspname = $1
  AND class.relname = $2
