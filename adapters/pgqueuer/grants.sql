-- Grants the operator's role what it needs: to read the view, and to write what it writes when it ends or retries a job.
GRANT USAGE ON SCHEMA @schema@ TO @role@;
GRANT SELECT, UPDATE (status, completed_at, error, scheduled_at) ON @schema@.jobexec_pgqueuer TO @role@;
