-- Records the promises by the present rules, and drops those whose extension was reduced or removed. $1 to $4: the rules.
WITH {rules},
noted AS MATERIALIZED (
    SELECT execution_rule.key,
           execution_rule.extend_by,
           due.run,
           -- No more than an extension can give.
           LEAST(due.deadline, LEAST(GREATEST(due.run, {first}), {last}) + interval '1000000 hours') AS promised
    FROM {table} AS execution
    {rules_of_row}
    CROSS JOIN LATERAL (SELECT {run} AS run, {deadline} AS deadline) AS due
    WHERE {id} = ANY (ARRAY (SELECT applies_to FROM execution_rule WHERE extend_by > interval '0'))
      AND {begun}
      -- Without a deadline, none is promised.
      AND verdict.timeout IS NOT NULL
      AND due.run BETWEEN {first} AND {last}
),
changed AS MATERIALIZED (
    SELECT key, noted.extend_by, noted.run, noted.promised
    FROM jobexec.rules AS rule
    LEFT JOIN noted USING (key)
    WHERE rule.store_id = $4
      AND rule.scope = 'execution'
      AND CASE WHEN noted.run IS NULL
               THEN rule.promised_start IS NOT NULL AND (rule.promised_by <= rule.extend_by) IS NOT TRUE
               ELSE (rule.promised_start, rule.promised_by) IS DISTINCT FROM (noted.run, noted.extend_by) END
)
UPDATE jobexec.rules AS rule
SET promised = changed.promised, promised_start = changed.run, promised_by = changed.extend_by
FROM changed
WHERE rule.store_id = $4
  AND rule.scope = 'execution'
  AND rule.key = changed.key
  AND (changed.run IS NULL OR rule.extend_by = changed.extend_by)
  AND {of_this_table}
