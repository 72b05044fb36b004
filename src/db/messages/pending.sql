-- Reports what waits for delivery. $1: store id, $2: channels for which no attempt is due.
SELECT statement_timestamp() AS now,
       (SELECT CASE WHEN min(at) IS NOT NULL THEN LEAST(GREATEST(min(at), '0001-01-01Z'), statement_timestamp()) END
        FROM jobexec.outbox
        WHERE store_id = $1 AND {post_of_this_store}) AS posted,
       (SELECT count(*)
        FROM jobexec.outbox
        WHERE store_id = $1
          AND NOT {post_of_this_store}
          AND at > {recently})
       + (SELECT count(*)
          FROM jobexec.messages
          WHERE store_id = $1
            AND ended_at IS NULL
            AND NOT {message_of_this_store}
            AND created_at > {recently}) AS foreign_count,
       (SELECT CASE WHEN isfinite(told_at) AND told_at BETWEEN '0001-01-01Z' AND statement_timestamp() THEN told_at END
        FROM jobexec.stores
        WHERE store_id = $1) AS told,
       CASE WHEN next IS NOT NULL THEN LEAST(GREATEST(next, '0001-01-01Z'), '9999-12-31Z') END AS next,
       waiting,
       channels
FROM (
    SELECT min(next) FILTER (WHERE channel <> ALL ($2)) AS next,
           COALESCE(sum(waiting), 0)::bigint AS waiting,
           COALESCE(array_agg(channel), '{{}}') AS channels
    FROM (
        SELECT channel, min(next_attempt_at) AS next, count(*) AS waiting
        FROM jobexec.messages
        WHERE store_id = $1
          AND ended_at IS NULL
          AND {message_of_this_store}
        GROUP BY channel
    ) AS by_channel
) AS total
