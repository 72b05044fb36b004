-- Lists the executions that were skipped for long because other transactions lock them. $1: store id, $2: kind of the observations,
-- $3: characters of a text, $4: how long.
SELECT execution_id, {since} AS since, left(detail, $3) AS detail
FROM jobexec.observations
WHERE store_id = $1
  AND kind = $2
  AND since <= statement_timestamp() - $4
  -- Without an operator it is unknown who holds which row by now, and the process of a session may do something else.
  AND EXISTS (
      SELECT
      FROM jobexec.stores AS store
      WHERE store.store_id = $1
        AND store.seen_at > statement_timestamp() - interval '3 minutes'
  )
