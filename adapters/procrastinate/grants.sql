-- Grants the operator's role what it needs: to read the view and the workers' heartbeats, and to write what it writes when it ends
-- or retries a job.
GRANT USAGE ON SCHEMA @schema@ TO @role@;
GRANT SELECT, UPDATE (status, completed_at, scheduled_at) ON @schema@.jobexec_procrastinate TO @role@;
GRANT SELECT (id, last_heartbeat) ON @schema@.procrastinate_workers TO @role@;
