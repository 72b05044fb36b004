-- Takes the oldest posts of a store out of the outbox, and counts all. $1: store id, $2: how many audit records at most the posts
-- before the last one refer to.
DELETE FROM jobexec.outbox
WHERE store_id = $1
  AND outbox_id = ANY (ARRAY (
      SELECT outbox_id
      FROM (
          SELECT outbox_id,
                 sum(COALESCE(cardinality(event_ids), 0)) OVER (ORDER BY outbox_id)
                     - COALESCE(cardinality(event_ids), 0) AS before
          FROM jobexec.outbox AS post
          WHERE store_id = $1 AND {of_this_store}
      ) AS numbered
      WHERE before < $2
  ))
RETURNING outbox_id, LEAST(at, statement_timestamp()) AS at, topic, note, event_ids, statement_timestamp() AS now,
          (SELECT count(*) FROM jobexec.outbox AS post WHERE store_id = $1 AND {of_this_store}) AS posted
