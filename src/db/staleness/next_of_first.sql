-- Part of other statements: the next deadline of the rows in first_of_rules.sql, or a time before it.
SELECT min(next)
FROM (
    SELECT LEAST(
               COALESCE(min(start) FILTER (WHERE without_rule AND NOT past),
                        CASE WHEN count(*) = {first} THEN max(start) FILTER (WHERE NOT past) END),
               {counts_later}
           ) + min(earliest) AS next
    FROM first_of_{scope}
    GROUP BY applies_to
) AS each
