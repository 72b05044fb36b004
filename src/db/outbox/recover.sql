-- Notes that a store has no problem any more. $1: store id, $2: when none was found.
UPDATE jobexec.stores
SET unwell_since = NULL
WHERE store_id = $1
  AND unwell_since < $2
  AND paused_at IS NULL
  AND NOT EXISTS (SELECT FROM jobexec.outbox WHERE outbox.store_id = $1 AND {of_this_store})
