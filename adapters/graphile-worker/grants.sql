-- Grants the operator's role what it needs: to read the view, and to write what it writes when it ends a job.
GRANT USAGE ON SCHEMA @schema@ TO @role@;
GRANT SELECT, UPDATE (status, completed_at, error) ON @schema@.jobexec_graphile_worker TO @role@;
