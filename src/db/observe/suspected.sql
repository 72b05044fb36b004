-- Part of running_counts.sql: executions whose job is finished and that nothing ends.
SELECT {id}::text AS id, {job_id} AS job_id
FROM {table} AS execution
JOIN {jobs} ON {of_job}
WHERE {running}
  AND {suspected}
  AND NOT {certain}
  AND {id} NOT IN (SELECT id FROM stale)
