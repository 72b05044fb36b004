-- Records why a retry was refused, and when it is tried again. $1: store id, $2: the execution, $3: why.
UPDATE jobexec.retries AS retry
SET tries = LEAST(retry.tries + 1, 1000), fault = left($3, 1000), due_at = statement_timestamp() + {pause}
WHERE store_id = $1
  AND execution_id = $2
  AND decided_at IS NULL
