-- Reads executions as they are now, by the rules. $1 to $4: the rules, $5: ids.
WITH {predicate}
SELECT {id}::text AS id,
       {job_id} AS job_id,
       {job_type} AS job_type,
       {number}::bigint AS number,
       {status} AS status,
       {started_at} AS started_at,
       {completed_at} AS completed_at,
       EXTRACT(epoch FROM COALESCE({completed_at}, statement_timestamp()) - {started_at})::float8 AS runtime,
       verdict.timeout,
       verdict.timeout_source,
       verdict.extend_by,
       execution_rule.extend_source,
       verdict.action AS on_stale,
       CASE WHEN {running} THEN {deadline} ELSE ended.deadline END AS deadline,
       COALESCE({running} AND {long_running}, false) AS long_running,
       COALESCE(stale.reason, ended.reason) AS reason,
       {action} AS action,
       CASE WHEN stale.reason IS NULL THEN ended.source ELSE {source} END AS source,
       CASE WHEN {running} THEN {governed} END AS governed,
       {suspected} AS suspected
FROM {table} AS execution {rules_of_row}
LEFT JOIN stale ON stale.id = {id}
LEFT JOIN LATERAL ({recorded}) AS ended ON true
WHERE {id} = ANY ($5::text[]::{id_type}[])
  AND {exists}
