-- Postpones everything that waits for a rejected recipient. $1: store id, $2: channel, $3: recipient, $4: the message that was tried,
-- $5: its error, $6: seconds until the next attempt.
UPDATE jobexec.messages
SET error = CASE message_id WHEN $4 THEN $5 ELSE error END,
    next_attempt_at = GREATEST(next_attempt_at, statement_timestamp() + make_interval(secs => $6))
WHERE store_id = $1
  AND channel = $2
  AND recipient = $3
  AND ended_at IS NULL
