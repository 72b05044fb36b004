-- Lists the records of other tables that were last known by the name of this one. $1: schema and $2: name of the table, $3: store
-- id, $4: seconds without a confirmation that make a gap, $5: pattern for the sources of extensions without an object.
SELECT store_id, uid, namespace, name,
       {confirmed} AS confirmed,
       CASE WHEN relname IS NOT NULL THEN format('%I.%I', nspname, relname) END AS now_called,
       dumped,
       COALESCE(table_owner = {table_owner}, false) AS same_owner,
       extended
FROM (
    SELECT store.*, store.registry <> 'jobexec.stores'::regclass AS dumped, class.relname, namespace.nspname
    FROM jobexec.stores AS store
    LEFT JOIN pg_class AS class
           ON class.oid = store.table_oid
          AND class.relkind IN ('r', 'p')
          AND store.registry = 'jobexec.stores'::regclass
    LEFT JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
    WHERE store.table_schema = $1
      AND store.table_name = $2
      AND store.store_id IS DISTINCT FROM $3::bigint
) AS store
CROSS JOIN LATERAL (
    SELECT count(*) AS extended
    FROM jobexec.rules AS rule
    WHERE rule.store_id = store.store_id AND {granted}
) AS granted
ORDER BY extended > 0 DESC, store_id DESC
LIMIT {limit}
