-- Part of batch.sql: ends the executions that are stale for one reason.
{name} AS (
    UPDATE {table} AS execution
    SET {assignments}
    WHERE {id} = ANY (ARRAY (SELECT id FROM stale WHERE reason = '{reason}'))
      AND {running}
    RETURNING {id} AS id,
              {job_key} AS job_key,
              {job_id} AS job_id,
              {job_type} AS job_type,
              {number}::bigint AS number,
              {started_at} AS started_at,
              {created_at} AS created_at,
              {paused} AS paused,
              {ending} AS ending
)
