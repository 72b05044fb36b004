-- Part of differs.sql and replace.sql: the suspects for a reason now, and those that are stored. $1: store id, $2 to $4: what the
-- query for the suspects uses.
found AS MATERIALIZED ({query}),
kept AS (
    SELECT execution_id, began_at, certain, detail
    FROM jobexec.suspects
    WHERE store_id = $1
      AND reason = '{reason}'
)
