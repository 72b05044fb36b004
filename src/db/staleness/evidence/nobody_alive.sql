-- The number of executions whose worker is not in the table of workers, if no running execution has a worker that is alive there.
SELECT count(*)
FROM (
    SELECT FROM {table} AS execution
    WHERE {running}
      AND {names_worker}
      AND NOT EXISTS (SELECT FROM {workers} WHERE {of_worker})
      AND NOT {another_alive}
    LIMIT {most}
) AS missing
