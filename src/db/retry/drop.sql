-- Drops the retries of executions that are no longer as they were left: their worker finished them after all, somebody had them run
-- again, or they are gone; and those that have waited for too long. $1: store id.
UPDATE jobexec.retries AS retry
SET decided_at = statement_timestamp(),
    outcome = 'Dropped',
    fault = CASE WHEN retry.due_at < statement_timestamp() - interval '30 days' THEN 'it waited for 30 days'
                 ELSE 'its row is no longer as the operator left it' END
WHERE retry.store_id = $1
  AND retry.decided_at IS NULL
  AND (
      retry.due_at < statement_timestamp() - interval '30 days'
      OR NOT EXISTS (
          SELECT
          FROM {table} AS execution
          WHERE {id} = {retried_id}
            AND {as_left}
      )
  )
