-- Reads the latest retry of an execution. $1: store id, $2: the execution.
SELECT attempt + 1 AS attempt,
       due_at,
       waits,
       left(fault, 300) AS fault,
       left(next_id, 1000) AS next_id,
       outcome
FROM jobexec.retries
WHERE store_id = $1
  AND execution_id = $2
ORDER BY jobexec.retries.attempt DESC
LIMIT 1
