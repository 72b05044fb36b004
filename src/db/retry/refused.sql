-- Records why a retry was refused, and when it is tried again. $1: store id, $2: the execution, $3: why.
UPDATE jobexec.retries AS retry
SET {refused}
WHERE store_id = $1
  AND execution_id = $2
  AND decided_at IS NULL
