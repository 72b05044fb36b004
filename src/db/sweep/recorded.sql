-- Part of batch.sql: records the ends, and counts them in the sweep.
, recorded AS (
    INSERT INTO jobexec.events (
        at, store_id, sweep_id, execution_id, job_id, execution_number, action, reason, source, actor, note, started_at, deadline
    )
    SELECT at, ${store}, ${sweep}, id, job_id, number, ending, reason, source, {actor}, note, started_at, deadline
    FROM judged
    RETURNING event_id
),
tallied AS (
    INSERT INTO jobexec.sweeps AS sweep (sweep_id, store_id, trigger, started_at, failed, uid)
    SELECT ${sweep}, ${store}, ${trigger}, statement_timestamp(), count(*),
           (SELECT uid FROM jobexec.stores WHERE store_id = ${store})
    FROM judged
    HAVING count(*) > 0
    ON CONFLICT (sweep_id) DO UPDATE SET failed = sweep.failed + excluded.failed
)
{posted}
