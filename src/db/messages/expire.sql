-- Gives up messages that have waited for longer than any spec allows. $1: store id, $2: that time in seconds.
UPDATE jobexec.messages
SET ended_at = statement_timestamp(), outcome = 'GivenUp'
WHERE store_id = $1
  AND ended_at IS NULL
  AND created_at < statement_timestamp() - make_interval(secs => $2)
  AND {of_this_store}
