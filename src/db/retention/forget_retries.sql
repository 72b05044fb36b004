-- Deletes the oldest of the retries that were decided long ago. One whose next attempt has not ended is kept: it counts the attempts.
-- $1: store id, $2: the age of an old one, $3: how many to delete.
DELETE FROM jobexec.retries
WHERE store_id = $1
  AND (execution_id, attempt) IN (
      SELECT retry.execution_id, retry.attempt
      FROM jobexec.retries AS retry
      WHERE retry.store_id = $1
        AND retry.decided_at < statement_timestamp() - $2
        AND NOT EXISTS (SELECT FROM {table} AS execution WHERE {id} = {next_id} AND NOT ({finished}))
        AND NOT EXISTS (
            SELECT
            FROM jobexec.retries AS later
            WHERE later.store_id = $1
              AND later.execution_id = COALESCE(retry.next_id, retry.execution_id)
              AND later.decided_at IS NULL
        )
      ORDER BY retry.decided_at
      LIMIT $3
  )
