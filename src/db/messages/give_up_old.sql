-- Gives up old messages that were tried or cannot be. $1: store id, $2: their least age, $3: channels that cannot be tried, $4: how
-- many at most.
UPDATE jobexec.messages
SET ended_at = statement_timestamp(), outcome = 'GivenUp'
WHERE message_id = ANY (ARRAY (
    SELECT message_id
    FROM jobexec.messages
    WHERE {of_this_store}
      AND store_id = $1
      AND ended_at IS NULL
      AND created_at < statement_timestamp() - $2
      AND (attempts > 0 OR channel = ANY ($3))
    LIMIT $4
    FOR UPDATE SKIP LOCKED
))
RETURNING message_id, channel, error
