-- Deletes samples of all stores that are older than 30 days. $1: how many at most.
DELETE FROM jobexec.samples
WHERE ctid = ANY (ARRAY(
    SELECT old.ctid
    FROM jobexec.stores AS store,
         LATERAL (
             SELECT ctid
             FROM jobexec.samples
             WHERE store_id = store.store_id
               AND at < statement_timestamp() - interval '30 days'
             ORDER BY at
             LIMIT $1
         ) AS old
    LIMIT $1
))
