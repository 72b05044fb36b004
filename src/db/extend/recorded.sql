-- Part of extend.sql: records the extension.
, recorded AS (
    INSERT INTO jobexec.events (
        at, store_id, execution_id, job_id, execution_number, action, reason, source, actor, note, started_at
    )
    SELECT statement_timestamp(), $1, alive.id, alive.job_id, alive.number, 'DeadlineMoved', 'ExtendRequested', $4, $6,
           'extended by ' || $3::interval::text, alive.started_at
    FROM alive
    JOIN extended ON extended.key = alive.id
)
