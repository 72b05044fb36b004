-- Records and lists executions that were ended and have finished with another result since. $1: store id, $2: the record before
-- which to check.
{found},
recorded AS (
    INSERT INTO jobexec.events (
        at, store_id, execution_id, job_id, execution_number, action, reason, source, note, started_at, deadline
    )
    SELECT statement_timestamp(), $1, execution_id, job_id, execution_number, '{finished_late}', reason, source,
           'it was ' || lower(action) || ' at ' || {ended_at} || ', and lived: its row says ' || quote_literal(status)
               || COALESCE(', ended at ' || {completed_at}, ''),
           started_at, deadline
    FROM found
    ORDER BY event_id
    RETURNING event_id
)
{posted}
SELECT execution_id, job_id, {at} AS at, status FROM found ORDER BY event_id
