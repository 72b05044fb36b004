-- Part of other statements: posts the audit records that their part `recorded` made, if anybody is to be notified.
, posted AS (
    INSERT INTO jobexec.outbox (store_id, at, event_ids, uid)
    SELECT {store_id}, statement_timestamp(), array_agg(event_id),
           (SELECT uid FROM jobexec.stores WHERE store_id = {store_id})
    FROM recorded
    WHERE EXISTS (SELECT FROM jobexec.stores WHERE store_id = {store_id} AND notifies)
    HAVING count(*) > 0
)
