-- Deletes the oldest sweeps of a store. $1: store id, $2: their least age, $3: how many at most.
DELETE FROM jobexec.sweeps
WHERE sweep_id = ANY (ARRAY (
    SELECT sweep_id
    FROM jobexec.sweeps
    WHERE store_id = $1
      AND started_at < statement_timestamp() - $2
    ORDER BY started_at
    LIMIT $3
))
