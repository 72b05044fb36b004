-- Cancels executions. $1: the requests as JSON.
WITH request AS MATERIALIZED (
    SELECT DISTINCT ON (key) key::{id_type} AS id, source, actor, started
    FROM jsonb_to_recordset($1::jsonb) AS given (key text, source text, actor text, started bigint)
    ORDER BY key
),
taken AS MATERIALIZED (
    SELECT {id} AS id
    FROM {table} AS execution
    WHERE {id} = ANY (ARRAY (SELECT id FROM request))
      AND ({alive})
      AND {may_end}
      AND EXISTS (
          SELECT
          FROM request
          WHERE request.id = {id}
            AND COALESCE(floor(extract(epoch FROM {started_at})) = request.started, request.started IS NULL)
      )
    {lock}
),
cancelled AS (
    UPDATE {table} AS execution
    SET {assignments}
    WHERE {id} = ANY (ARRAY (SELECT id FROM taken))
      AND ({alive})
    RETURNING {id} AS id, {job_id} AS job_id, {number}::bigint AS number, {started_at} AS started_at, CASE WHEN NOT ({alive}) THEN {ending} END AS ending
),
done AS MATERIALIZED (
    SELECT cancelled.id::text AS id, cancelled.job_id, cancelled.number, cancelled.started_at,
           statement_timestamp() AS at, request.source, request.actor, cancelled.ending
    FROM cancelled
    JOIN request ON request.id = cancelled.id
    WHERE cancelled.ending <> '{completed}'
)
{recorded}
SELECT id, job_id, number, started_at, at, source
FROM done
WHERE {login_path}
  AND {action}
UNION ALL
-- Their workers are asked to stop.
SELECT id::text, NULL, NULL, NULL, NULL, NULL
FROM cancelled
WHERE ending IS NULL
