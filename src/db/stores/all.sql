-- Lists the tables that a store claims or whose mapping is recorded. $1: how many at most, $2: the length in bytes up to which a
-- mapping is read.
SELECT store.store_id,
       namespace.nspname::text AS schema,
       class.relname::text AS table_name,
       CASE WHEN store.uid IS NOT NULL THEN store.namespace || '/' || store.name END AS claimed_by,
       store.mapping IS NOT NULL AS recorded,
       CASE WHEN octet_length(store.mapping) <= $2 THEN store.mapping END AS mapping
FROM (
    -- The schema of an older operator does not have the column `mapping`.
    SELECT own.store_id, own.table_oid, own.uid, own.namespace, own.name, to_jsonb(own) ->> 'mapping' AS mapping
    FROM jobexec.stores AS own
    WHERE own.registry = 'jobexec.stores'::regclass
) AS store
JOIN pg_catalog.pg_class AS class ON class.oid = store.table_oid AND class.relkind IN ('r', 'p', 'v')
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE store.uid IS NOT NULL OR store.mapping IS NOT NULL
ORDER BY 2, 3
LIMIT $1
