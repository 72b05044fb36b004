-- Opens or closes the circuit breaker of a store. $1: store id, $2: why it opens, or NULL to close it.
UPDATE jobexec.stores
SET paused_at = CASE WHEN $2::text IS NULL THEN NULL ELSE statement_timestamp() END,
    paused_why = $2
WHERE store_id = $1
