-- Plans the end of an execution: whether Postgres can lock and update rows of the view. It is not run.
EXPLAIN
WITH stale AS MATERIALIZED (
    SELECT {id} AS id FROM {table} AS execution WHERE {running} LIMIT 1 {lock}
)
UPDATE {table} AS execution
SET {assignments}
WHERE {id} = ANY (ARRAY (SELECT id FROM stale)) AND {running}
RETURNING {id}, {ending}
