-- Part of other statements: the retries that may start, with the rows that they retry. $1 to $4: the rules, $5: an execution; NULL: any.
WITH {rules},
ready AS MATERIALIZED (
    SELECT retry.execution_id,
           retry.attempt,
           GREATEST(retry.attempt, {attempt}) AS counted,
           retry.reason,
           retry.source,
           GREATEST(retry.due_at, statement_timestamp()) AS due_at,
           {id} AS id,
           {job_shown} AS job_id,
           {number}::bigint AS number,
           {started_at} AS started_at{copies}
    FROM jobexec.retries AS retry
    JOIN {table} AS execution ON {id} = {retried_id}
    {rules_of_row}
    {beats}
    WHERE retry.store_id = $4
      AND retry.decided_at IS NULL
      AND {as_left}
      AND ({startable}retry.due_at <= statement_timestamp())
      AND (NOT retry.waits OR ({gone}) IS TRUE)
      AND (retry.forced OR {room} IS DISTINCT FROM 0)
      AND ($5::text IS NULL OR retry.execution_id = $5)
      {alone}
    ORDER BY retry.forced DESC, retry.due_at
    -- Those that people asked for come first, and need no room.
    LIMIT LEAST({batch}, NULLIF({room}, 0) + (
        SELECT count(*)
        FROM jobexec.retries AS retry
        WHERE retry.store_id = $4
          AND retry.decided_at IS NULL
          AND retry.forced
          AND NOT retry.waits
          AND ({startable}retry.due_at <= statement_timestamp())
    ))
    {lock}
)
