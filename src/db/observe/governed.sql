-- Counts the running executions that each object governs with a setting that counts. It groups before it unnests: there are few
-- combinations of sources, and many executions. $1 to $4: the rules.
WITH {rules},
way AS (
    SELECT ARRAY[verdict.timeout_source, verdict.grace_source, verdict.heartbeat_source, verdict.on_stale_source, verdict.warn_source] AS sources,
           count(*) AS executions
    FROM {table} AS execution
    {rules_of_row}
    WHERE {running}
    GROUP BY 1
)
SELECT source, sum(executions)::bigint AS executions
FROM way
CROSS JOIN LATERAL (SELECT DISTINCT unnest(sources) AS source) AS said
WHERE source IS NOT NULL
GROUP BY source
