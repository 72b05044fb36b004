-- Deletes the old ones among the next audit records of a store, and returns the last record unless nothing old follows it.
-- $1: the record after which to begin, $2: how many records to check, $3: store id, $4: the age of an old record.
WITH batch AS MATERIALIZED (
    SELECT event_id, at, execution_id
    FROM jobexec.events
    WHERE store_id = $3 AND event_id > $1
    ORDER BY event_id
    LIMIT $2
),
old AS MATERIALIZED (
    SELECT batch.event_id
    FROM batch
    WHERE batch.at < statement_timestamp() - $4
      AND NOT EXISTS (SELECT FROM {table} AS execution WHERE {id} = {recorded_id} AND {begun})
),
deleted AS (
    DELETE FROM jobexec.events
    WHERE store_id = $3
      AND event_id = ANY (ARRAY (SELECT event_id FROM old))
)
SELECT max(event_id)
FROM batch
HAVING count(*) = $2 AND NOT bool_and(at >= statement_timestamp() - $4)
