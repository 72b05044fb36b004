-- Part of other statements: the next deadline of executions that count from what was observed of them.
SELECT min({deadline})
FROM {table} AS execution
{observed}
{rules_of_row}
WHERE {running}
  AND {start}
  AND {deadline} > statement_timestamp()
