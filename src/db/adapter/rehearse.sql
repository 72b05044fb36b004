-- Ends the longest running execution that nobody locks, for a transaction that is rolled back. Returns its id, whether the table let
-- the statement write the row, and what became of it.
WITH stale AS MATERIALIZED (
    SELECT {id} AS id FROM {table} AS execution WHERE {running} ORDER BY {start} LIMIT 1 {lock}
),
written AS (
    UPDATE {table} AS execution
    SET {assignments}
    WHERE {id} = ANY (ARRAY (SELECT id FROM stale)) AND {running}
    RETURNING {ending} AS ending
)
SELECT id::text, EXISTS (SELECT FROM written), (SELECT ending FROM written LIMIT 1)
FROM stale
WHERE {login_path}
  AND {action}
