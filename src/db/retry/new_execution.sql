-- Inserts the rows of the next attempts, and records them. A row that a unique constraint refuses is tried again later. Parameters: as in
-- ready.sql.
{ready},
wanted AS MATERIALIZED (
    {wanted}
),
{inserted},
started AS MATERIALIZED (
    SELECT *
    FROM (
        SELECT numbered.*,
               (SELECT jsonb_object_agg(id, next_id) FROM matched WHERE next_id IS NOT NULL) ->> numbered.id::text AS next_id
        FROM numbered
    ) AS numbered
    WHERE next_id IS NOT NULL
),
{recorded}refused AS (
    UPDATE jobexec.retries AS retry
    SET tries = LEAST(retry.tries + 1, 1000),
        fault = 'a unique constraint of the table refuses the new row',
        due_at = statement_timestamp() + {pause}
    FROM numbered
    WHERE retry.store_id = $4
      AND retry.execution_id = numbered.execution_id
      AND retry.attempt = numbered.attempt
      AND numbered.id NOT IN (SELECT id FROM matched WHERE next_id IS NOT NULL)
    RETURNING retry.execution_id, retry.attempt
)
SELECT execution_id, (counted + 1)::bigint AS next_attempt, left(next_id, 1000) AS next_id, reason, false AS unmatched
FROM started
-- Postgres evaluates these first, so that the table's triggers find the objects that they use, and know the action.
WHERE {login_path}
  AND {action}
UNION ALL
SELECT execution_id, attempt + 1, NULL, NULL, false FROM refused
UNION ALL
SELECT '', 0, NULL, NULL, true WHERE (SELECT count(*) FROM inserted) <> (SELECT count(next_id) FROM matched)
