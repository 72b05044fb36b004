-- Drops the retries that are due while the budget is spent. $1: store id.
UPDATE jobexec.retries AS retry
SET decided_at = statement_timestamp(), outcome = 'Dropped', fault = 'the retry budget of the store is spent'
WHERE retry.store_id = $1
  AND retry.decided_at IS NULL
  AND NOT retry.waits
  AND NOT retry.forced
  AND retry.due_at <= statement_timestamp()
  AND {room} = 0
