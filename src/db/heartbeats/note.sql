-- Records the state of the server, and the beginning of a hold. $1: store id, $2: start of the server, $3: when workers may have been
-- cut off, $4: why, $5: whether a hold begins, $6: now.
UPDATE jobexec.stores
SET server_started_at = $2,
    heartbeats_doubted = $3,
    heartbeats_why = $4,
    heartbeats_held = CASE WHEN $5 THEN ARRAY(
        SELECT held_from
        FROM unnest(heartbeats_held) AS held_from
        WHERE isfinite(held_from)
        ORDER BY held_from DESC
        LIMIT {holds}
    ) || $6 ELSE heartbeats_held END
WHERE store_id = $1
