-- Records the new observations, and forgets those that are over. One statement cannot delete and replace the same row.
WITH {seen},
forgotten AS (
    DELETE FROM jobexec.observations AS observation
    USING (SELECT execution_id FROM over EXCEPT SELECT execution_id FROM fresh) AS gone
    WHERE observation.store_id = $1
      AND observation.kind = '{kind}'
      AND observation.execution_id = gone.execution_id
)
INSERT INTO jobexec.observations AS observation (store_id, kind, execution_id, started_at, since, detail)
SELECT DISTINCT ON (execution_id) $1, '{kind}', execution_id, started_at, statement_timestamp(), detail
FROM fresh
ON CONFLICT (store_id, kind, execution_id) DO UPDATE
SET started_at = excluded.started_at, since = excluded.since, total = NULL, detail = excluded.detail
WHERE (observation.started_at, observation.detail) IS DISTINCT FROM (excluded.started_at, excluded.detail)
