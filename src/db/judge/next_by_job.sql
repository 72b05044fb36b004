-- Part of other statements: the next deadline by the rules of jobs.
SELECT min({deadline})
FROM job_rule
JOIN {table} AS execution ON {job_id} = job_rule.applies_to
{other_rules}
CROSS JOIN LATERAL (SELECT {settings}) AS verdict
WHERE job_rule.moves
  AND {which}
  AND {running}
  AND NOT ({by_deadline})
