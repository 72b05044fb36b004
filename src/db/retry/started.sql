-- Part of new_execution.sql and set_back.sql: records that the attempts may start now.
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
    SELECT statement_timestamp(), $4, execution_id, job_id, number, '{action}', reason, source,
           'attempt ' || (counted + 1) || CASE WHEN next_id <> execution_id THEN ' is execution ' || left(next_id, 200) ELSE '' END
               || ', and may start at ' || {due_at},
           started_at
    FROM started
    RETURNING event_id
),
{posted}
