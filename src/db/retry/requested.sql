-- Part of request.sql: records the retries of `planned`. $11: the source, $12: the person.
, requested AS (
    INSERT INTO jobexec.retries AS retry (
        store_id, execution_id, attempt, reason, source, ended_at, alive_at, silence, due_at, waits, forced, tries
    )
    SELECT $4, execution_id, LEAST(attempt, 999999), shown_reason, $11::text, ended_at, alive_at, silence, due_at, waits, true, 0
    FROM planned
    WHERE possible
    ON CONFLICT (store_id, execution_id, attempt) DO UPDATE
    SET reason = excluded.reason,
        source = excluded.source,
        ended_at = excluded.ended_at,
        alive_at = excluded.alive_at,
        silence = excluded.silence,
        due_at = excluded.due_at,
        waits = excluded.waits,
        forced = true,
        tries = 0,
        fault = NULL,
        decided_at = NULL,
        outcome = NULL
    WHERE retry.outcome IS DISTINCT FROM '{as_retried}'
    RETURNING retry.execution_id
),
noted AS (
    INSERT INTO jobexec.events (
        at, store_id, execution_id, job_id, execution_number, action, reason, source, actor, note, started_at
    )
    SELECT statement_timestamp(), $4, execution_id, job_id, number, '{requested}', shown_reason, $11::text, $12::text,
           'attempt ' || (attempt + 1) || CASE WHEN waits THEN ' waits until the worker of this one is gone'
               ELSE ' may start at ' || {shown_due} END,
           started_at
    FROM planned
    WHERE (execution_id IN (SELECT execution_id FROM requested)) IS TRUE
)
