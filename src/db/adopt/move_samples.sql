-- Moves samples to another record. $1: its store id, $2: the store id that they have.
WITH taken AS (
    DELETE FROM jobexec.samples WHERE store_id = $2 RETURNING *
)
INSERT INTO jobexec.samples (store_id, at, running, scheduled, long_running, stale, failed)
SELECT $1, at, running, scheduled, long_running, stale, failed FROM taken
ON CONFLICT DO NOTHING
