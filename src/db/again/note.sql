-- Records stale executions that run again with the start of a run that has ended. $1 to $4: the rules.
{again},
noted AS (
    INSERT INTO jobexec.observations AS observation (store_id, kind, execution_id, started_at, since)
    SELECT $4, '{started_again}', id, started_at, statement_timestamp() FROM again
    ON CONFLICT (store_id, kind, execution_id) DO UPDATE
    SET started_at = excluded.started_at, since = excluded.since
)
INSERT INTO jobexec.events (
    at, store_id, execution_id, job_id, execution_number, action, reason, source, note, started_at
)
SELECT statement_timestamp(), $4, id, job_id, number, '{action}', 'StartUnchanged', source,
       'its run ended at ' || to_char(ended_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
           || ', and it runs again with the same start: what runs it again has to set that',
       started_at
FROM again
