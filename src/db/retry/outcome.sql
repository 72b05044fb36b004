-- Part of new_execution.sql and set_back.sql: records which of the rows of `{wanted}` are `started`, and returns both.
refused AS (
    UPDATE jobexec.retries AS retry
    SET {refused}
    FROM {wanted} AS wanted
    WHERE retry.store_id = $4
      AND retry.execution_id = wanted.execution_id
      AND retry.attempt = wanted.attempt
      AND wanted.execution_id NOT IN (SELECT execution_id FROM started)
    RETURNING retry.execution_id, retry.attempt
),
decided AS (
    UPDATE jobexec.retries AS retry
    SET next_id = started.next_id,
        decided_at = statement_timestamp(),
        outcome = '{retried}',
        waits = false,
        fault = NULL
    FROM started
    WHERE retry.store_id = $4
      AND retry.execution_id = started.execution_id
      AND retry.attempt = started.attempt
),
recorded AS (
    INSERT INTO jobexec.events (
        at, store_id, execution_id, job_id, execution_number, action, reason, source, note, started_at
    )
    SELECT statement_timestamp(), $4, execution_id, job_id, number, '{started}', reason, source,
           'attempt ' || (counted + 1) || CASE WHEN next_id <> execution_id THEN ' is execution ' || left(next_id, 200) ELSE '' END
               || ', and may start at ' || {due_at},
           started_at
    FROM started
    RETURNING event_id
)
{posted}
SELECT execution_id, (counted + 1)::bigint AS next_attempt, left(next_id, 1000) AS next_id, reason, false AS unmatched
FROM started
-- Postgres evaluates these first, so that the table's triggers find the objects that they use, and know the action.
WHERE {login_path}
  AND {action}
UNION ALL
SELECT execution_id, attempt + 1, NULL, NULL, false FROM refused
