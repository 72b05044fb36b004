-- Finds the executions of a page, in its order. $1 to $4: the rules.
WITH {predicate}
SELECT to_json({start}) #>> '{{}}' AS start, {id}::text AS id
FROM {table} AS execution {stale}
WHERE {condition}
ORDER BY {start} {direction}, {id} {direction}
LIMIT {limit}
