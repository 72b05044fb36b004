-- Lets the jobexec operator end and retry jobs of Graphile Worker: a view of its private tables, and the trigger that turns what
-- the operator writes into what Graphile Worker writes itself. The owner of these tables runs it, as often as needed.
SET LOCAL lock_timeout = '5s';
SET LOCAL client_min_messages = warning;

-- The view and the function have the rights of the role that creates them. Row security hides the tables from all but the owner.
DO $do$
DECLARE
    owner name := (
        SELECT pg_get_userbyid(relowner)
        FROM pg_catalog.pg_class
        WHERE oid = pg_catalog.to_regclass($name$@schema@._private_jobs$name$)
    );
BEGIN
    IF owner IS NULL THEN
        RAISE EXCEPTION 'there is no table _private_jobs in the schema %', $name$@schema@$name$
        USING HINT = 'Let Graphile Worker migrate first, or name its schema.';
    ELSIF owner <> current_user THEN
        RAISE EXCEPTION 'the tables of Graphile Worker belong to %, and this is %', owner, current_user
        USING HINT = pg_catalog.format('Run SET ROLE %I first.', owner);
    END IF;
END
$do$;

-- A job that failed for good has no end of its own: its last failure moved run_at by the backoff, or an administrator touched it.
CREATE OR REPLACE VIEW @schema@.jobexec_graphile_worker AS
SELECT job.id,
       (SELECT task.identifier FROM @schema@._private_tasks AS task WHERE task.id = job.task_id) AS job_type,
       CASE WHEN job.locked_at IS NOT NULL THEN 'running' WHEN job.is_available THEN 'scheduled' ELSE 'failed' END AS status,
       job.attempts AS attempt,
       job.max_attempts,
       job.locked_at AS started_at,
       CASE WHEN job.locked_at IS NULL AND NOT job.is_available
            THEN GREATEST(job.updated_at, job.run_at - exp(LEAST(job.attempts, 10)) * interval '1 second')
       END AS completed_at,
       job.last_error AS error,
       job.locked_by AS worker,
       job.created_at,
       job.run_at AS scheduled_at
FROM @schema@._private_jobs AS job;

-- Ends or retries a running job. It runs as the owner, because row security hides the tables from the operator. It changes only the
-- attempt that the operator saw: that of this start and this worker.
CREATE OR REPLACE FUNCTION @schema@.jobexec_graphile_worker() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    action text := current_setting('jobexec.ending', true);
    queue integer;
    available boolean;
BEGIN
    IF (action IN ('Fail', 'Cancel', 'Retry')) IS NOT TRUE OR OLD.status <> 'running' THEN
        RAISE EXCEPTION 'only the jobexec operator updates %.%, and only running jobs', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- Graphile Worker has no cancelled jobs. The job keeps running, which tells the operator so.
    IF action = 'Cancel' THEN
        RETURN OLD;
    END IF;
    -- A failure writes the backoff even if no attempt is left. Giving up sets the number of attempts to the limit. The reason may
    -- be, word for word, that of the attempt before.
    UPDATE @schema@._private_jobs AS job
    SET locked_at = NULL,
        locked_by = NULL,
        last_error = COALESCE(NEW.error, 'ended by the jobexec operator'),
        run_at = CASE action
            WHEN 'Retry' THEN GREATEST(statement_timestamp(), job.run_at) + exp(LEAST(job.attempts, 10)) * interval '1 second'
            ELSE job.run_at
        END,
        attempts = CASE action WHEN 'Retry' THEN job.attempts ELSE job.max_attempts END,
        updated_at = CASE action WHEN 'Retry' THEN job.updated_at ELSE statement_timestamp() END
    WHERE job.id = OLD.id
      AND job.locked_at = OLD.started_at
      AND job.locked_by IS NOT DISTINCT FROM OLD.worker
      AND job.attempts = OLD.attempt
    RETURNING job.job_queue_id, job.is_available INTO queue, available;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    -- A locked queue starts no other job. A transaction that holds this row is releasing it as well: waiting could only deadlock.
    IF queue IS NOT NULL THEN
        UPDATE @schema@._private_job_queues AS job_queue
        SET locked_at = NULL, locked_by = NULL
        WHERE job_queue.id = (
            SELECT held.id
            FROM @schema@._private_job_queues AS held
            WHERE held.id = queue
              AND held.locked_by = OLD.worker
            FOR UPDATE SKIP LOCKED
        );
    END IF;
    NEW.status := CASE WHEN available THEN 'scheduled' ELSE 'failed' END;
    NEW.completed_at := CASE WHEN NOT available THEN statement_timestamp() END;
    RETURN NEW;
END
$function$;
REVOKE ALL ON FUNCTION @schema@.jobexec_graphile_worker() FROM PUBLIC;

DO $do$
BEGIN
    IF NOT EXISTS (
        SELECT
        FROM pg_catalog.pg_trigger
        WHERE tgrelid = pg_catalog.to_regclass($name$@schema@.jobexec_graphile_worker$name$)
          AND tgname = 'jobexec_graphile_worker'
          AND tgfoid = pg_catalog.to_regprocedure($name$@schema@.jobexec_graphile_worker()$name$)
          AND tgenabled IN ('O', 'A')
    ) THEN
        DROP TRIGGER IF EXISTS jobexec_graphile_worker ON @schema@.jobexec_graphile_worker;
        CREATE TRIGGER jobexec_graphile_worker INSTEAD OF UPDATE ON @schema@.jobexec_graphile_worker
        FOR EACH ROW EXECUTE FUNCTION @schema@.jobexec_graphile_worker();
    END IF;
END
$do$;

COMMENT ON VIEW @schema@.jobexec_graphile_worker IS 'jobexec adapter graphile-worker 2';
COMMENT ON FUNCTION @schema@.jobexec_graphile_worker() IS 'jobexec adapter graphile-worker 2';
