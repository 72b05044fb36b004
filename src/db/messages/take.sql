-- Takes due messages of a store, in the order in which to deliver them: from each channel in turn, those never tried first.
-- $1: store id, $2: channels to leave alone, $3: the most of one channel, $4: the most in all, $5: seconds until the next attempt.
WITH due AS (
    SELECT array_agg(message_id ORDER BY turn, tried, next_attempt_at) AS ids
    FROM (
        SELECT message_id, next_attempt_at, attempts > 0 AS tried,
               row_number() OVER (PARTITION BY channel ORDER BY attempts > 0, next_attempt_at) AS turn
        FROM jobexec.messages
        WHERE store_id = $1
          AND ended_at IS NULL
          AND next_attempt_at <= statement_timestamp()
          AND channel <> ALL ($2)
          AND {of_this_store}
    ) AS numbered
    WHERE turn <= $3
),
-- FOR UPDATE is not allowed with a window function, and another operator may have taken a row in the meantime.
chosen AS (
    SELECT message_id, array_position((SELECT ids FROM due), message_id) AS place
    FROM jobexec.messages
    WHERE message_id = ANY ((SELECT ids FROM due)::uuid[])
      AND ended_at IS NULL
      AND next_attempt_at <= statement_timestamp()
    ORDER BY place
    LIMIT $4
    FOR UPDATE SKIP LOCKED
),
taken AS (
    UPDATE jobexec.messages
    SET attempts = LEAST(attempts, 1000000) + 1,
        next_attempt_at = statement_timestamp() + make_interval(secs => $5)
    FROM chosen
    WHERE messages.message_id = chosen.message_id
    RETURNING messages.message_id, channel, recipient, message, attempts, place
)
SELECT message_id, channel, recipient, message, attempts FROM taken ORDER BY place
