-- Part of other statements: the next deadline by the rules with more rows than in first_of_rules.sql.
SELECT min(COALESCE(ahead.first, ahead.last) + {scope}.earliest)
FROM {scope}
JOIN more_of_{scope} USING (applies_to)
CROSS JOIN LATERAL (
    SELECT min(start) FILTER (WHERE without_rule) AS first, CASE WHEN count(*) = {ahead} THEN max(start) END AS last
    FROM (
        SELECT {start} AS start, {without_rule} AS without_rule
        FROM {table} AS execution
        WHERE {key} = {scope}.applies_to
          AND {running}
          AND NOT ({past})
          AND {soon}
        ORDER BY {started_at}
        LIMIT {ahead}
    ) AS ahead
) AS ahead
