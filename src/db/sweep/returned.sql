-- Part of batch.sql and retry_batch.sql: returns the rows that were ended, and those that keep running.
SELECT id, job_id, number, started_at, deadline, at, source, reason, ending
FROM judged
-- Postgres evaluates these first, so that the table's triggers find the objects that they use, and know the action.
WHERE {login_path}
  AND {action}
UNION ALL
SELECT id::text, NULL, NULL, NULL, NULL, NULL, NULL, NULL, CASE WHEN id IN (SELECT id FROM ended WHERE ending = '{completed}') THEN '{completed}'
            WHEN id IN (SELECT id FROM ended) THEN 'Running' END
FROM stale
WHERE id::text NOT IN (SELECT id FROM judged)
