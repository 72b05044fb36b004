-- Part of other statements: the first rows of each rule by their start, and the rules with more rows that are past their deadline.
first_of_{scope} AS MATERIALIZED (
    SELECT {scope}.applies_to,
           {scope}.earliest,
           {action} AS action,
           first.*
    FROM {scope}
    CROSS JOIN store_defaults
    CROSS JOIN LATERAL (
        SELECT {id} AS id, {start} AS start, {without_rule} AS without_rule, {past} AS past{counts_later}
        FROM {table} AS execution
        WHERE {key} = {scope}.applies_to
          AND {running}
          AND {soon}
        ORDER BY {started_at}
        LIMIT {first}
    ) AS first
    WHERE {scope}.ends
      AND {scope}.fixed
),
more_of_{scope} AS MATERIALIZED (
    SELECT applies_to
    FROM first_of_{scope}
    GROUP BY applies_to
    HAVING count(*) = {first} AND bool_and(past)
)
