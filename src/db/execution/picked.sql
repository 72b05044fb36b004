-- Part of read.sql: the executions that should have an object: stale ones, running ones, and those that ended recently.
(SELECT id FROM stale LIMIT {one_more})
UNION
(SELECT {id} FROM {table} AS execution WHERE {running} ORDER BY {start} LIMIT {one_more})
{ended}
