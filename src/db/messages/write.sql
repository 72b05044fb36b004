-- Writes messages of a store that are due at once. $1: store id; for each message, $2: id, $3: channel, $4: recipient, $5: content.
INSERT INTO jobexec.messages
    (message_id, store_id, channel, recipient, message, created_at, attempts, next_attempt_at, uid)
SELECT id, $1, channel, recipient, message, statement_timestamp(), 0, statement_timestamp(),
       (SELECT uid FROM jobexec.stores WHERE store_id = $1)
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::jsonb[]) AS letter (id, channel, recipient, message)
