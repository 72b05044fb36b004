-- Sets the rows of the next attempts back, and records them. Parameters: as in ready.sql.
{ready},
updated AS (
    UPDATE {table} AS execution
    SET {assignments}
    FROM ready
    WHERE {id} = ANY (ARRAY (SELECT id FROM ready))
      AND {id} = ready.id
      AND {failed}
    RETURNING ready.*, ready.execution_id AS next_id, {ending} AS ending
),
started AS MATERIALIZED (
    SELECT DISTINCT ON (execution_id) * FROM updated WHERE ending = '{as_retried}'
),
{recorded}unchanged AS (
    UPDATE jobexec.retries AS retry
    SET tries = LEAST(retry.tries + 1, 1000),
        fault = 'a trigger of the table does not let the row run again',
        due_at = statement_timestamp() + {pause}
    FROM ready
    WHERE retry.store_id = $4
      AND retry.execution_id = ready.execution_id
      AND retry.attempt = ready.attempt
      AND ready.execution_id NOT IN (SELECT execution_id FROM started)
    RETURNING retry.execution_id, retry.attempt
)
SELECT execution_id, (counted + 1)::bigint AS next_attempt, left(next_id, 1000) AS next_id, reason, false AS unmatched
FROM started
-- Postgres evaluates these first, so that the table's triggers find the objects that they use, and know the action.
WHERE {login_path}
  AND {action}
UNION ALL
SELECT execution_id, attempt + 1, NULL, NULL, false FROM unchanged
