-- Part of retry_batch.sql: sets the rows back that may run again now, as far as the budget goes, and fails the others.
,
free AS MATERIALIZED (
    SELECT id
    FROM planned
    WHERE NOT exhausted
      AND NOT waits
      AND {startable}
    ORDER BY due_at
    LIMIT {room}
),
set_back AS (
    UPDATE {table} AS execution
    SET {set_back}
    FROM planned
    WHERE {id} = planned.id
      AND planned.id IN (SELECT id FROM free)
      AND {running}
    RETURNING planned.*, NULL::timestamptz AS ended_at, {ending} AS ending
),
failed AS (
    UPDATE {table} AS execution
    SET {fail}
    FROM planned
    WHERE {id} = planned.id
      AND planned.id NOT IN (SELECT id FROM free)
      AND {running}
    RETURNING planned.*, {completed_at} AS ended_at, {ending} AS ending
),
ended AS (
    SELECT * FROM set_back
    UNION ALL
    SELECT * FROM failed
)
