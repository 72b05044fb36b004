-- Moves retries to another record, unless it has the same attempt. $1: its store id, $2: the store id that they have.
UPDATE jobexec.retries AS retry
SET store_id = $1
WHERE retry.store_id = $2
  AND NOT EXISTS (
      SELECT
      FROM jobexec.retries AS other
      WHERE other.store_id = $1
        AND (
            (other.execution_id = retry.execution_id AND other.attempt = retry.attempt)
            OR (other.next_id = retry.next_id AND other.next_id <> other.execution_id)
        )
  )
