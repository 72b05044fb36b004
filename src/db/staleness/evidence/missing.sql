-- Part of replace.sql: executions whose worker is not in the table of workers, while that of another execution is alive.
SELECT {id}::text AS execution_id, {began_at} AS began_at, true AS certain, {detail} AS detail
FROM {table} AS execution
WHERE {running}
  AND {began_at} IS NOT NULL
  AND {names_worker}
  AND NOT EXISTS (SELECT FROM {workers} WHERE {of_worker})
  AND {another_alive}
