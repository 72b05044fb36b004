-- Locks what waits for a recipient, in one order so that concurrent transactions wait for each other. $1: store id, $2: channel,
-- $3: recipient.
SELECT attempts
FROM jobexec.messages
WHERE store_id = $1
  AND channel = $2
  AND recipient = $3
  AND ended_at IS NULL
ORDER BY message_id
FOR UPDATE
