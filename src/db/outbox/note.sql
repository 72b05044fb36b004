-- Posts a note about a store if anybody is to be notified. $1: store id, $2: topic, $3: text.
INSERT INTO jobexec.outbox (store_id, at, event_ids, topic, note, uid)
SELECT store_id, statement_timestamp(), '{}', $2, $3, uid
FROM jobexec.stores
WHERE store_id = $1 AND notifies
