-- Counts the running executions at one moment. $1 to $4: the rules.
WITH {predicate},
live AS (
    SELECT count(*) AS running,
           min({started_at}) AS oldest,
           count(*) FILTER (WHERE {long_running}) AS long_running
    FROM {table} AS execution
    {rules_of_row}
    WHERE {running}
)
{suspects}
SELECT statement_timestamp() AS now,
       live.running,
       live.long_running,
       {oldest} AS oldest,
       (SELECT count(*) FROM stale) AS stale,
       (SELECT count(*) FROM stale WHERE stale.reason = '{job_finished}') AS of_finished_jobs,
       pair.id,
       pair.job_id,
       {suspect_columns},
       {recreated_columns}
FROM live
LEFT JOIN LATERAL (
    SELECT stale.id::text AS id, {job_id} AS job_id
    FROM stale
    JOIN {table} AS execution ON {id} = stale.id
    WHERE stale.reason = '{job_finished}'
    ORDER BY stale.id
    LIMIT 1
) AS pair ON true
