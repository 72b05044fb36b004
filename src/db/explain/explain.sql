-- Reads one execution with every rule that could govern it, its evidence, and its verdict. $1 to $4: the rules, $5: its id, in a
-- list.
WITH {predicate}
SELECT statement_timestamp() AS now,
       {status} AS status,
       {job_id} AS job_id,
       {job_type} AS job_type,
       {number}::bigint AS number,
       {started_at} AS started_at,
       {created_at} AS created_at,
       {completed_at} AS completed_at,
       {counts_from} AS counts_from,
       {deadline} AS deadline,
       {promised} AS promised,
       verdict.action,
       {own_timeout} AS own_timeout,
       {own_source} AS own_source,
       {evidence}stale.reason,
       stale.action AS stale_action,
       {settings}
FROM {table} AS execution
{rules_of_row}
LEFT JOIN stale ON stale.id = {id}
WHERE {id} = (${ids}::text[]::{id_type}[])[1]
  AND {exists}
