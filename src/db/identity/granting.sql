-- Lists the records of other tables, last known by the name of this one, in which people granted something. $1: schema and $2: name
-- of the table, $3: store id, $4: pattern for the sources of extensions without an object.
SELECT store.store_id,
       store.registry <> 'jobexec.stores'::regclass AS dumped,
       COALESCE(store.table_owner = {table_owner}, false) AS same_owner,
       store.uid,
       EXISTS (
           SELECT
           FROM jobexec.rules AS rule
           WHERE rule.store_id = store.store_id AND {extended_elsewhere}
       ) AS open
FROM jobexec.stores AS store
WHERE store.table_schema = $1
  AND store.table_name = $2
  AND store.store_id IS DISTINCT FROM $3::bigint
  AND EXISTS (
      SELECT
      FROM jobexec.rules AS rule
      WHERE rule.store_id = store.store_id AND {granted}
  )
ORDER BY store.store_id
