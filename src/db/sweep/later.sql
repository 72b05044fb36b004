-- Part of retry_batch.sql: fails the rows, whose retries wait.
,
ended AS (
    UPDATE {table} AS execution
    SET {fail}
    FROM planned
    WHERE {id} = planned.id
      AND {running}
    RETURNING planned.*, {completed_at} AS ended_at, {ending} AS ending
)
