-- Part of other statements: the next deadline by default of executions that count from later than their start.
SELECT min({counts_from}) + $1 + $2
FROM {table} AS execution
WHERE {running}
  AND {started_by}
  AND {counts_from} > {cutoff}
  AND {without_rule}
