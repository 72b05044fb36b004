-- Part of rows.sql: executions that have ended, and whose retry waits until their worker is gone.
UNION ALL
SELECT {id}::text, {began_at}, COALESCE(said.workload, {named})
FROM jobexec.retries AS retry
JOIN {table} AS execution ON {id} = {retried_id}
LEFT JOIN unnest($3::text[], $4::text[]) AS said (id, workload) ON said.id = {id}::text
WHERE {known}
  AND retry.store_id = $1
  AND retry.decided_at IS NULL
  AND retry.waits
  AND {failed}
  AND {began_at} IS NOT NULL
