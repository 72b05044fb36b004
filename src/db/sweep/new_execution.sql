-- Part of retry_batch.sql: fails the rows, and inserts the rows of the next attempts, as far as the budget goes. A row that a unique
-- constraint refuses waits.
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
ended AS (
    UPDATE {table} AS execution
    SET {fail}
    FROM planned
    WHERE {id} = planned.id
      AND {running}
    RETURNING planned.*, {completed_at} AS ended_at, {ending} AS ending, {copies}
),
wanted AS MATERIALIZED (
    SELECT *
    FROM ended
    WHERE ending = '{as_failed}'
      AND id IN (SELECT id FROM free)
),
{inserted}
