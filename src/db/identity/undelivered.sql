-- Counts the messages and posts of records that are still to be delivered, up to a limit each. $1: store ids of the records.
SELECT store.store_id,
       LEAST(
           (SELECT count(*)
            FROM (
                SELECT
                FROM jobexec.messages AS message
                WHERE message.store_id = store.store_id AND message.ended_at IS NULL
                LIMIT {limit} + 1
            ) AS waiting)
           + (SELECT count(*)
              FROM (
                  SELECT
                  FROM jobexec.outbox AS post
                  WHERE post.store_id = store.store_id
                  LIMIT {limit} + 1
              ) AS waiting),
           {limit} + 1) AS undelivered
FROM unnest($1::bigint[]) AS store (store_id)
