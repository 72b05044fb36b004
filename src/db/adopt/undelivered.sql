-- Counts the messages and posts of a record that are not delivered. $1: store id.
SELECT (SELECT count(*) FROM jobexec.messages WHERE store_id = $1 AND ended_at IS NULL)
       + (SELECT count(*) FROM jobexec.outbox WHERE store_id = $1)
