-- Counts workers by how long they have been silent, in tenths of their timeout. $1 to $4: the rules.
WITH {rules},
beat AS MATERIALIZED (
    SELECT {worker} AS worker,
           {alive} AS alive,
           {counts_from} + verdict.heartbeat <= statement_timestamp() AS lost,
           verdict.heartbeat AS allowed,
           true AS running
    FROM {table} AS execution {joins}
    {rules_of_row}
    WHERE {running}
      AND {heartbeat} IS NOT NULL
      AND {began} IS NOT NULL
      AND verdict.heartbeat IS NOT NULL {others}
    {idle}
),
worker AS (
    SELECT max(alive) AS alive,
           COALESCE(min(allowed) FILTER (WHERE running), min(allowed)) AS allowed,
           min(alive) FILTER (WHERE lost AND {fresh}) AS lost,
           count(*) FILTER (WHERE lost AND {fresh}) AS due,
           count(*) FILTER (WHERE running AND NOT lost AND alive + allowed <= statement_timestamp()) AS held
    FROM beat
    GROUP BY worker
)
SELECT LEAST(
           GREATEST(
               floor(
                   10 * EXTRACT(epoch FROM statement_timestamp() - alive) / GREATEST(EXTRACT(epoch FROM allowed), 0.001)
               ),
               -1000
           ),
           1000000
       )::bigint AS tenths,
       count(*) FILTER (WHERE {fresh}) AS workers,
       {lost} AS lost,
       sum(due)::bigint AS due,
       sum(held)::bigint AS held
FROM worker
GROUP BY 1
