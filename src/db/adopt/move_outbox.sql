-- Moves posts to another record. $1: the store id that they have, $2: whether only those of other stores than $3, a UID; $4: the store
-- id and $5: the UID that they get.
WITH taken AS (
    DELETE FROM jobexec.outbox AS post
    WHERE post.store_id = $1
      AND (NOT $2 OR post.uid IS NOT NULL AND post.uid IS DISTINCT FROM $3::text)
    RETURNING post.*
)
INSERT INTO jobexec.outbox (store_id, at, event_ids, topic, note, uid)
SELECT $4, at, event_ids, topic, note, $5::text FROM taken ORDER BY outbox_id
