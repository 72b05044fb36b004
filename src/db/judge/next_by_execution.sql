-- Part of other statements: the next deadline by the rules of single executions.
SELECT min({deadline})
FROM execution_rule
JOIN {table} AS execution ON {id} = execution_rule.applies_to
{other_rules}
CROSS JOIN LATERAL (SELECT {settings}) AS verdict
WHERE execution_rule.moves
  AND {running}
  AND NOT ({by_deadline} {past_promised})
