-- Part of differs.sql and update.sql: the observations of a kind now, and those that are stored. $1: store id, $2 to $4: what the
-- queries for the observations use.
seen AS MATERIALIZED ({now}),
matters AS MATERIALIZED ({matters}),
kept AS MATERIALIZED (
    SELECT execution_id, started_at, detail
    FROM jobexec.observations
    WHERE store_id = $1
      AND kind = '{kind}'
),
fresh AS MATERIALIZED (
    SELECT execution_id, started_at, detail FROM seen
    EXCEPT
    SELECT * FROM kept
),
over AS MATERIALIZED (
    SELECT execution_id, started_at FROM kept
    EXCEPT
    SELECT execution_id, started_at FROM matters
)
