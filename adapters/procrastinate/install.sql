-- Lets the jobexec operator end and retry jobs of Procrastinate: a view that adds the times of each job, which are rows of its
-- events, and the trigger that turns what the operator writes into what Procrastinate writes itself. The owner of these tables runs
-- it, as often as needed.
SET LOCAL lock_timeout = '5s';
SET LOCAL client_min_messages = warning;

-- The view and the function have the rights of the role that creates them.
DO $do$
DECLARE
    owner name := (
        SELECT pg_get_userbyid(relowner)
        FROM pg_catalog.pg_class
        WHERE oid = pg_catalog.to_regclass($name$@schema@.procrastinate_jobs$name$)
    );
BEGIN
    IF owner IS NULL THEN
        RAISE EXCEPTION 'there is no table procrastinate_jobs in the schema %', $name$@schema@$name$
        USING HINT = 'Apply the schema of Procrastinate first, or name the schema that it is in.';
    ELSIF owner <> current_user THEN
        RAISE EXCEPTION 'the tables of Procrastinate belong to %, and this is %', owner, current_user
        USING HINT = pg_catalog.format('Run SET ROLE %I first.', owner);
    END IF;
END
$do$;

-- Procrastinate counts the attempts that have ended. It forgets the worker of a running job when it deletes the worker as stalled:
-- such a job names worker 0, which never exists, and so counts as lost.
CREATE OR REPLACE VIEW @schema@.jobexec_procrastinate AS
SELECT job.id,
       job.task_name AS job_type,
       job.queue_name,
       job.status,
       CASE job.status WHEN 'doing' THEN job.attempts + 1 ELSE job.attempts END AS attempt,
       (
           SELECT max(event.at)
           FROM @schema@.procrastinate_events AS event
           WHERE event.job_id = job.id
             AND event.type = 'started'
       ) AS started_at,
       CASE WHEN job.status IN ('succeeded', 'failed', 'cancelled', 'aborted') THEN (
           SELECT max(event.at)
           FROM @schema@.procrastinate_events AS event
           WHERE event.job_id = job.id
             AND event.type IN ('succeeded', 'failed', 'cancelled', 'aborted')
       ) END AS completed_at,
       COALESCE(job.worker_id, 0) AS worker,
       job.scheduled_at,
       job.abort_requested
FROM @schema@.procrastinate_jobs AS job;

-- Ends, retries or cancels a running job. It runs as the owner, because the triggers of Procrastinate write to its events, and has
-- the schema in its search path, because they name these tables without it. It changes only the attempt that the operator saw.
CREATE OR REPLACE FUNCTION @schema@.jobexec_procrastinate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, @schema@, pg_temp AS $function$
DECLARE
    action text := current_setting('jobexec.ending', true);
    requested boolean;
    waits_once boolean;
BEGIN
    IF (action IN ('Fail', 'Cancel', 'Retry')) IS NOT TRUE OR OLD.status <> 'doing' THEN
        RAISE EXCEPTION 'only the jobexec operator updates %.%, and only running jobs', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT job.abort_requested, job.queueing_lock IS NOT NULL
    INTO requested, waits_once
    FROM @schema@.procrastinate_jobs AS job
    WHERE job.id = OLD.id
      AND job.status = 'doing'
      AND job.attempts = OLD.attempt - 1
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    -- To cancel is to ask the worker to abort, once. The job runs on until the worker does, or until the operator ends the job.
    IF action = 'Cancel' THEN
        IF NOT requested THEN
            UPDATE @schema@.procrastinate_jobs AS job
            SET abort_requested = true
            WHERE job.id = OLD.id
              AND job.status = 'doing'
              AND job.attempts = OLD.attempt - 1;
        END IF;
        RETURN OLD;
    END IF;
    IF action = 'Retry' AND NOT requested THEN
        BEGIN
            UPDATE @schema@.procrastinate_jobs AS job
            SET status = 'todo',
                attempts = job.attempts + 1,
                scheduled_at = CASE
                    WHEN NEW.scheduled_at IS DISTINCT FROM OLD.scheduled_at THEN NEW.scheduled_at
                    ELSE statement_timestamp()
                END
            WHERE job.id = OLD.id
              AND job.status = 'doing'
              AND job.attempts = OLD.attempt - 1
            RETURNING job.scheduled_at INTO NEW.scheduled_at;
            NEW.status := 'todo';
            NEW.completed_at := NULL;
            RETURN NEW;
        EXCEPTION WHEN unique_violation THEN
            -- Another job with the same queueing lock waits already. It does the work, and this one fails.
            IF NOT waits_once THEN
                RAISE;
            END IF;
        END;
    END IF;
    -- What a worker was asked to abort ends as aborted.
    UPDATE @schema@.procrastinate_jobs AS job
    SET status = CASE WHEN requested THEN 'aborted' ELSE 'failed' END::@schema@.procrastinate_job_status,
        abort_requested = false,
        attempts = job.attempts + 1
    WHERE job.id = OLD.id
      AND job.status = 'doing'
      AND job.attempts = OLD.attempt - 1
    RETURNING job.status, job.scheduled_at INTO NEW.status, NEW.scheduled_at;
    -- As in the event that the update has written.
    NEW.completed_at := now();
    RETURN NEW;
END
$function$;
REVOKE ALL ON FUNCTION @schema@.jobexec_procrastinate() FROM PUBLIC;

DO $do$
BEGIN
    IF NOT EXISTS (
        SELECT
        FROM pg_catalog.pg_trigger
        WHERE tgrelid = pg_catalog.to_regclass($name$@schema@.jobexec_procrastinate$name$)
          AND tgname = 'jobexec_procrastinate'
          AND tgfoid = pg_catalog.to_regprocedure($name$@schema@.jobexec_procrastinate()$name$)
          AND tgenabled IN ('O', 'A')
    ) THEN
        DROP TRIGGER IF EXISTS jobexec_procrastinate ON @schema@.jobexec_procrastinate;
        CREATE TRIGGER jobexec_procrastinate INSTEAD OF UPDATE ON @schema@.jobexec_procrastinate
        FOR EACH ROW EXECUTE FUNCTION @schema@.jobexec_procrastinate();
    END IF;
END
$do$;

COMMENT ON VIEW @schema@.jobexec_procrastinate IS 'jobexec adapter procrastinate 1';
COMMENT ON FUNCTION @schema@.jobexec_procrastinate() IS 'jobexec adapter procrastinate 1';
