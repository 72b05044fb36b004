-- Adds what was observed in other records to a record; of two pauses the longer one counts. $1: its store id, $2: store ids of the
-- others, $3 is not used.
INSERT INTO jobexec.observations AS observation (store_id, kind, execution_id, started_at, since, total, detail)
SELECT DISTINCT ON (other.kind, other.key)
       $1, other.kind, other.key, other.started_at, other.since, other.total, other.detail
FROM (SELECT seen.*, seen.execution_id AS key FROM jobexec.observations AS seen) AS other
WHERE other.store_id = ANY ($2)
  AND $3::text IS NOT NULL
  AND {wanted}
ORDER BY other.kind, other.key, other.store_id DESC
ON CONFLICT (store_id, kind, execution_id) DO UPDATE
SET total = excluded.total
WHERE observation.started_at = excluded.started_at
  AND excluded.total > COALESCE(observation.total, interval '0')
