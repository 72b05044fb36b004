-- Grants the operator's role what it needs: to read the mapped columns, and to write the three that end an execution. It needs no
-- right on the steps.
GRANT USAGE ON SCHEMA @schema@ TO @role@;
GRANT SELECT (job_execution_id, job_instance_id, create_time, start_time, end_time, status, exit_message, xmax, xmin),
    UPDATE (end_time, status, exit_message)
    ON @schema@.batch_job_execution TO @role@;
GRANT SELECT (job_instance_id, job_name) ON @schema@.batch_job_instance TO @role@;
GRANT SELECT (job_execution_id, last_updated) ON @schema@.jobexec_spring_batch_heartbeats TO @role@;
