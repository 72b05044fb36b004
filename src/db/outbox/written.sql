-- Records that messages were written. $1: store id, $2: whether one is about a problem of the store as a whole, $3: whether none of
-- the posts is left.
UPDATE jobexec.stores
SET told_at = CASE WHEN $3 THEN statement_timestamp() ELSE told_at END,
    unwell_since = CASE WHEN $2 THEN statement_timestamp() ELSE unwell_since END
WHERE store_id = $1
