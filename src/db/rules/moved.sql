-- Part of replace.sql: records which executions got another deadline from a person.
moved AS (
    INSERT INTO jobexec.events (at, store_id, execution_id, action, reason, source, actor, note)
    SELECT statement_timestamp(), $1, differing.key, 'DeadlineMoved', 'SpecChanged',
           COALESCE(differing.extend_source, differing.timeout_source), wanted.actor,
           concat_ws(', ', CASE WHEN differing.timeout_source IS NOT NULL THEN 'timeout ' || COALESCE(differing.timeout::text, 'Never') END,
                     'extended by ' || differing.extend_by::text)
    FROM differing
    JOIN wanted USING (scope, key)
    LEFT JOIN stored USING (scope, key)
    WHERE scope = 'execution'
      AND (stored.timeout, stored.timeout_source IS NULL, stored.extend_by)
          IS DISTINCT FROM (differing.timeout, differing.timeout_source IS NULL, differing.extend_by)
    UNION ALL
    SELECT statement_timestamp(), $1, key, 'DeadlineMoved', 'SpecRemoved',
           COALESCE(extend_source, timeout_source), NULL, NULL
    FROM unwanted
    WHERE scope = 'execution'
),
