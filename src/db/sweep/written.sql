-- Part of retry_batch.sql: writes rows of `planned`.
{name} AS (
    UPDATE {table} AS execution
    SET {assignments}
    FROM planned
    WHERE {id} = planned.id{which}
      AND {running}
    RETURNING planned.*, {ended_at} AS ended_at, {ending} AS ending{copies}
)
