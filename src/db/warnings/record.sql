-- Records the executions to report. $1 to $4: the rules.
{due},
recorded AS (
    INSERT INTO jobexec.events (
        at, store_id, execution_id, job_id, execution_number, action, reason, source, started_at, deadline, again_at
    )
    SELECT statement_timestamp(), $4, id, job_id, number, action, reason, source, started_at, deadline, again_at
    FROM due
    ON CONFLICT (store_id, execution_id, action, started_at, COALESCE(again_at, '-infinity'::timestamptz))
        WHERE action IN ('Warned', 'Alerted')
        DO NOTHING
    RETURNING event_id, execution_id, job_id, started_at, deadline, reason, source
)
{posted}
SELECT execution_id, job_id, started_at, deadline, reason, source FROM recorded
