-- Counts the executions that do not run.
SELECT (SELECT count(*) FROM {table} AS execution WHERE {scheduled}) AS scheduled,
       (
           SELECT count(*)
           FROM {table} AS execution
           WHERE {started_at} IS NOT NULL
             AND NOT ({before})
             AND {exists}
             AND ({ignored}) IS NOT TRUE
       ) AS recent
