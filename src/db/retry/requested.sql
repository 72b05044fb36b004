-- Part of request.sql: records the retries of `planned`. $11: the source, $12: the person.
, requested AS (
    INSERT INTO jobexec.retries AS retry (
        store_id, execution_id, attempt, reason, source, ended_at, alive_at, silence, due_at, waits, forced, tries
    )
    -- Several rows may have one id.
    SELECT DISTINCT ON (execution_id) $4, execution_id, attempt, COALESCE(reason, '{reason}'), $11::text, ended_at, alive_at, silence, due_at,
           waits, true, 0
    FROM planned
    ON CONFLICT (store_id, execution_id, attempt) DO UPDATE
    SET ended_at = excluded.ended_at,
        -- One that was dropped may be that of an earlier run of the row.
        alive_at = CASE WHEN retry.decided_at IS NULL THEN COALESCE(excluded.alive_at, retry.alive_at) ELSE excluded.alive_at END,
        silence = CASE WHEN retry.decided_at IS NULL THEN COALESCE(excluded.silence, retry.silence) ELSE excluded.silence END,
        due_at = excluded.due_at,
        waits = excluded.waits AND (retry.waits OR retry.decided_at IS NOT NULL),
        forced = true,
        tries = 0,
        fault = NULL,
        decided_at = NULL,
        outcome = NULL
    WHERE retry.outcome IS DISTINCT FROM '{as_retried}'
    RETURNING retry.execution_id, retry.attempt, retry.due_at, retry.waits
),
noted AS (
    INSERT INTO jobexec.events (
        at, store_id, execution_id, job_id, execution_number, action, reason, source, actor, note, started_at
    )
    SELECT statement_timestamp(), $4, execution_id, job_id, number, '{requested}', COALESCE(reason, '{reason}'), $11::text, $12::text,
           'attempt ' || (attempt + 1) || CASE WHEN waits THEN ' waits until the worker of this one is gone'
               ELSE ' may start at ' || {shown_due} END,
           started_at
    FROM requested
    JOIN judged USING (execution_id)
)
