-- Part of cancel.sql: records what was cancelled.
, recorded AS (
    INSERT INTO jobexec.events (
        at, store_id, execution_id, job_id, execution_number, action, reason, source, actor, started_at
    )
    SELECT at, {store_id}, id, job_id, number, ending, '{reason}', source, actor, started_at
    FROM done
)
