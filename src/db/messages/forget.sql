-- Deletes old messages that have ended. $1: store id, $2: their least age, $3: how many at most.
DELETE FROM jobexec.messages
WHERE message_id = ANY (ARRAY (
    SELECT message_id
    FROM jobexec.messages
    WHERE store_id = $1
      AND ended_at < statement_timestamp() - $2
    LIMIT $3
))
