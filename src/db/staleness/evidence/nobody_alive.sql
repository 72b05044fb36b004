-- The number of executions whose worker is not in the table of workers, if no running execution has a worker that is alive there.
-- $1 to $4: the rules.
WITH {rules}
SELECT count(*) AS missing
FROM (
    SELECT FROM {table} AS execution
    {rules_of_row}
    WHERE {running}
      AND {began_at} IS NOT NULL
      AND verdict.heartbeat IS NOT NULL
      AND {names_worker}
      AND NOT EXISTS (SELECT FROM {workers} WHERE {of_worker})
      AND NOT {another_alive}
    LIMIT {most}
) AS missing
