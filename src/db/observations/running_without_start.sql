-- Part of seen.sql: executions that run without a start, with the version of their row.
SELECT {id}::text AS execution_id, NULL::timestamptz AS started_at, {version} AS detail
FROM {table} AS execution
WHERE {running}
  AND {started_at} IS NULL
  AND $1::bigint IS NOT NULL
