-- Part of other statements: the next deadline by default, or a time before it where rules govern all rows that are read.
SELECT COALESCE(min(start) FILTER (WHERE without_rule), CASE WHEN count(*) = {ahead} THEN max(start) END) + $1 + $2
FROM (
    SELECT {start} AS start, {without_rule} AS without_rule
    FROM {table} AS execution
    WHERE {running}
      AND NOT ({by_default})
      AND {soon}
    ORDER BY {started_at}
    LIMIT {ahead}
) AS ahead
