-- Part of other statements: the next deadline by the rules of types, where no index serves them.
SELECT min({counts_from} + type_rule.earliest)
FROM type_rule
JOIN {executions}
WHERE type_rule.ends
  AND {running}
  AND NOT ({past})
  AND {without_rule}
