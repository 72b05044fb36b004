-- Part of running_counts.sql: executions whose workload was recreated and that nothing ends.
SELECT {id}::text AS id, COALESCE({job_id}, '?') AS job_id
FROM {table} AS execution
WHERE {running}
  AND {again}
  AND {id} NOT IN (SELECT id FROM stale)
