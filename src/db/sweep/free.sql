-- Part of retry_batch.sql: the rows that may run again now, as far as the budget goes.
free AS MATERIALIZED (
    SELECT id
    FROM planned
    WHERE NOT exhausted
      AND NOT waits
      AND {startable}
    ORDER BY due_at
    LIMIT {room}
)
