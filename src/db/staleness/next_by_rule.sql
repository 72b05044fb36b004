-- Part of other statements: the next deadline by the rules of single executions or of jobs.
SELECT min({deadline})
FROM {scope}
JOIN {table} AS execution ON {key} = {scope}.applies_to
{other_rules}
CROSS JOIN LATERAL (SELECT {settings}) AS verdict
WHERE {scope}.ends
  {which}
  AND {running}
  AND NOT ({past})
