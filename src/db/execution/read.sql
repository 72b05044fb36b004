-- Reads executions as they are now: those with an object, and those that should have one. $1 to $4: the rules, $5: ids of the former.
WITH {predicate},
picked AS MATERIALIZED ({picked}),
wanted AS MATERIALIZED (
    SELECT unnest($5::text[]::{id_type}[]) AS id
    UNION
    SELECT id FROM picked
)
SELECT {id}::text AS id,
       {status} AS status,
       {job_id} AS job_id,
       {job_type} AS job_type,
       {number}::bigint AS number,
       {started_at} AS started_at,
       {completed_at} AS completed_at,
       ended.reason,
       ended.source AS ended_by,
       ended.actor,
       ended.note,
       verdict.timeout,
       verdict.timeout_source AS source,
       COALESCE(ended.deadline, {deadline}) AS deadline,
       {running} AND {long_running} AS long_running,
       verdict.warn_source,
       execution_rule.extend_source,
       {id} IN (SELECT id FROM stale) AS stale,
       {id} IN (SELECT id FROM picked) AS picked
FROM wanted
JOIN {table} AS execution ON {id} = wanted.id AND {exists} {rules_of_row}
LEFT JOIN LATERAL ({recorded}) AS ended ON true
