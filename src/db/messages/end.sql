-- Ends a message. $1: message id, $2: outcome, $3: error, or NULL to keep that of the last attempt.
UPDATE jobexec.messages
SET ended_at = statement_timestamp(), outcome = $2, error = COALESCE($3, error)
WHERE message_id = $1
