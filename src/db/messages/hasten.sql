-- Makes postponed messages due. $1: store id, $2: channels, $3: seconds for which an operator may hold a message that it took.
UPDATE jobexec.messages
SET next_attempt_at = statement_timestamp()
WHERE message_id = ANY (ARRAY (
    SELECT message_id
    FROM jobexec.messages
    WHERE store_id = $1
      AND ended_at IS NULL
      AND channel = ANY ($2)
      AND next_attempt_at > statement_timestamp() + make_interval(secs => $3)
    FOR UPDATE SKIP LOCKED
))
