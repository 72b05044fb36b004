-- Records that an attempt failed. $1: message id, $2: error, $3: seconds until the next attempt.
UPDATE jobexec.messages
SET error = $2, next_attempt_at = statement_timestamp() + make_interval(secs => $3)
WHERE message_id = $1 AND ended_at IS NULL
