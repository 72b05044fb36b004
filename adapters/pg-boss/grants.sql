-- What the operator's role needs, and no more: nothing on pg-boss's own tables, neither the data of a job nor its output, of which
-- the view shows the message of an error.
GRANT USAGE ON SCHEMA @schema@ TO @role@;
GRANT SELECT (
    id, job_id, job_type, attempt, status, created_at, scheduled_at, started_at, heartbeat_at, heartbeat_timeout, timeout,
    completed_at, error
) ON @schema@.jobexec_pg_boss TO @role@;
GRANT UPDATE (status, completed_at, error) ON @schema@.jobexec_pg_boss TO @role@;
