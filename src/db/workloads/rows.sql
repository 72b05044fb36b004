-- Part of other statements: executions that run, with their workloads, by objects or their row.
SELECT {id}::text AS execution_id, {began_at} AS began_at, COALESCE(said.workload, {named}) AS workload
FROM {table} AS execution
LEFT JOIN unnest($3::text[], $4::text[]) AS said (id, workload) ON said.id = {id}::text
WHERE {known}
  AND {running}
  AND {began_at} IS NOT NULL
  AND {any}
{pending}
