-- Lists stale executions with the reason, the longest-running first. $1 to $4: the rules.
WITH {predicate},
-- The rules are joined to the listed rows only, not to all stale rows.
listed AS MATERIALIZED (
    SELECT stale.*
    FROM stale
    JOIN {table} AS execution ON {id} = stale.id
    ORDER BY {counts_from}, {id}
    LIMIT {limit}
)
SELECT {id}::text AS id,
       {job_id} AS job_id,
       {number}::bigint AS number,
       {started_at} AS started_at,
       {deadline} AS deadline,
       stale.reason,
       {source} AS source,
       {action} AS action
FROM listed AS stale
JOIN {table} AS execution ON {id} = stale.id {rules_of_row}
ORDER BY {counts_from}, {id}
