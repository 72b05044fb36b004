-- Ends the claim of a store unless it was confirmed since. $1: its UID, $2: when the caller last confirmed it, $3: store id.
UPDATE jobexec.stores
SET uid = NULL, namespace = NULL, name = NULL, seen_at = NULL
WHERE uid = $1
  AND seen_at <= $2
  AND store_id = $3
