-- Creates the indexes that the operator's statements use. Run it outside of a transaction.

-- The running executions, which are few among all.
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobexec_spring_batch_running ON @schema@.batch_job_execution (start_time)
WHERE status IN ('STARTING', 'STARTED', 'STOPPING');

-- The steps of an execution. Spring Batch itself looks for them so, and ships no index for it. The column never changes, so that
-- the update of a step at each chunk stays as cheap as before.
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobexec_spring_batch_steps ON @schema@.batch_step_execution (job_execution_id);
