-- Counts the retries of the last hour and those that wait, by what they wait for, and returns when the next one is due. $1: store id.
SELECT {last_hour} AS last_hour,
       count(*) AS waiting,
       count(*) FILTER (WHERE waits AND fault IS NULL) AS for_worker,
       count(*) FILTER (WHERE NOT waits AND fault IS NULL AND due_at <= statement_timestamp()) AS due,
       count(*) FILTER (WHERE fault IS NOT NULL) AS refused,
       min(left(fault, 300)) AS fault,
       min(due_at) FILTER (WHERE NOT waits AND due_at > statement_timestamp()) - statement_timestamp() AS due_in
FROM jobexec.retries
WHERE store_id = $1
  AND decided_at IS NULL
