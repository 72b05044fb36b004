-- Deletes posts that have waited for longer than any spec allows. $1: store id, $2: that time in seconds.
DELETE FROM jobexec.outbox
WHERE store_id = $1
  AND at < statement_timestamp() - make_interval(secs => $2)
  AND {of_this_store}
