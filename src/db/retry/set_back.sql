-- Sets the rows of the next attempts back, and records them. Parameters: as in ready.sql.
{ready},
updated AS (
    UPDATE {table} AS execution
    SET {assignments}
    FROM ready
    WHERE {id} = ANY (ARRAY (SELECT id FROM ready))
      AND {id} = ready.id
      AND {failed}
    RETURNING ready.*, ready.execution_id AS next_id, {ending} AS ending
),
started AS MATERIALIZED (
    SELECT DISTINCT ON (execution_id) * FROM updated WHERE ending = '{as_retried}'
),
{outcome}
