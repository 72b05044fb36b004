-- Counts the executions that do not run.
SELECT (SELECT count(*) FROM {table} AS execution WHERE {scheduled}) AS scheduled, started.recent, started.last_hour
FROM (
    SELECT count(*) AS recent, count(*) FILTER (WHERE NOT ({before_hour})) AS last_hour
    FROM {table} AS execution
    WHERE {started_at} IS NOT NULL
      AND NOT ({before})
      AND {exists}
      AND ({ignored}) IS NOT TRUE
) AS started
