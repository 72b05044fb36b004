-- Removes the adapter. The indexes stay useful to Spring Batch; they are removed too, since they came with it.
DROP TRIGGER IF EXISTS jobexec_spring_batch_end ON @schema@.batch_job_execution;
DROP TRIGGER IF EXISTS jobexec_spring_batch_keep ON @schema@.batch_job_execution;
DROP TRIGGER IF EXISTS jobexec_spring_batch_refuse ON @schema@.batch_step_execution;
DROP FUNCTION IF EXISTS @schema@.jobexec_spring_batch_end();
DROP FUNCTION IF EXISTS @schema@.jobexec_spring_batch_keep();
DROP FUNCTION IF EXISTS @schema@.jobexec_spring_batch_refuse();
DROP VIEW IF EXISTS @schema@.jobexec_spring_batch_heartbeats;
DROP INDEX IF EXISTS @schema@.jobexec_spring_batch_running;
DROP INDEX IF EXISTS @schema@.jobexec_spring_batch_steps;
