-- Lets the jobexec operator end, retry and cancel jobs of PGQueuer: a view of its queue, and the trigger that turns what the
-- operator writes into what PGQueuer writes itself: a row of its log, and the job deleted, held or queued. The owner of these
-- tables runs it, as often as needed.
SET LOCAL lock_timeout = '5s';
SET LOCAL client_min_messages = warning;

-- The view and the function have the rights of the role that creates them.
DO $do$
DECLARE
    owner name := (
        SELECT pg_get_userbyid(relowner)
        FROM pg_catalog.pg_class
        WHERE oid = pg_catalog.to_regclass($name$@schema@.pgqueuer$name$)
    );
BEGIN
    IF owner IS NULL THEN
        RAISE EXCEPTION 'there is no table pgqueuer in the schema %', $name$@schema@$name$
        USING HINT = 'Run pgq install first, or name the schema that it is in.';
    ELSIF owner <> current_user THEN
        RAISE EXCEPTION 'the tables of PGQueuer belong to %, and this is %', owner, current_user
        USING HINT = pg_catalog.format('Run SET ROLE %I first.', owner);
    END IF;
END
$do$;

-- A pick writes updated, and nothing else does until the job ends. Jobs that have ended are rows of the log, except failed jobs
-- that are held. The error is for writing only: it becomes the traceback in the log.
CREATE OR REPLACE VIEW @schema@.jobexec_pgqueuer AS
SELECT job.id,
       job.entrypoint AS job_type,
       job.status,
       job.attempts + 1 AS attempt,
       CASE WHEN job.status = 'picked' THEN job.updated END AS started_at,
       CASE WHEN job.status = 'failed' THEN job.updated END AS completed_at,
       NULL::text AS error,
       job.queue_manager_id AS worker,
       job.heartbeat AS heartbeat_at,
       job.created AS created_at,
       job.execute_after AS scheduled_at
FROM @schema@.pgqueuer AS job;

-- Ends, retries or cancels a running job. It runs as the owner, so that the operator needs no rights on the queue and its log. It
-- changes only the pick that the operator saw: that of this worker at this time.
CREATE OR REPLACE FUNCTION @schema@.jobexec_pgqueuer() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    action text := current_setting('jobexec.ending', true);
    reason text := COALESCE(NEW.error, 'ended by the jobexec operator');
    outcome @schema@.pgqueuer_status;
    job_priority integer;
    record_of_error jsonb;
BEGIN
    IF (action IN ('Fail', 'Cancel', 'Retry')) IS NOT TRUE OR OLD.status <> 'picked' THEN
        RAISE EXCEPTION 'only the jobexec operator updates %.%, and only running jobs', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- A failed job is deleted, as by default, or held if the store says `failed`, as with on_failure='hold'.
    outcome := CASE
        WHEN action = 'Retry' THEN 'queued'
        WHEN action = 'Cancel' THEN 'canceled'
        WHEN NEW.status = 'failed' THEN 'failed'
        ELSE 'exception'
    END;
    IF outcome IN ('queued', 'failed') THEN
        UPDATE @schema@.pgqueuer AS job
        SET status = outcome,
            updated = statement_timestamp(),
            queue_manager_id = NULL,
            attempts = CASE outcome WHEN 'queued' THEN job.attempts + 1 ELSE job.attempts END,
            execute_after = CASE
                WHEN outcome = 'failed' THEN job.execute_after
                WHEN NEW.scheduled_at IS DISTINCT FROM OLD.scheduled_at THEN COALESCE(NEW.scheduled_at, statement_timestamp())
                ELSE statement_timestamp()
            END
        WHERE job.id = OLD.id
          AND job.status = 'picked'
          AND job.updated = OLD.started_at
          AND job.queue_manager_id IS NOT DISTINCT FROM OLD.worker
        RETURNING job.priority, job.execute_after INTO job_priority, NEW.scheduled_at;
    ELSE
        DELETE FROM @schema@.pgqueuer AS job
        WHERE job.id = OLD.id
          AND job.status = 'picked'
          AND job.updated = OLD.started_at
          AND job.queue_manager_id IS NOT DISTINCT FROM OLD.worker
        RETURNING job.priority INTO job_priority;
    END IF;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    -- PGQueuer reads these keys as its record of an exception. It logs a cancelled job without one.
    IF outcome <> 'canceled' THEN
        record_of_error := jsonb_build_object(
            'job_id', OLD.id,
            'timestamp', statement_timestamp(),
            'exception_type', split_part(reason, ':', 1),
            'exception_message', reason,
            'traceback', reason,
            'additional_context', jsonb_build_object(
                'entrypoint', OLD.job_type, 'queue_manager_id', OLD.worker, 'attempt', OLD.attempt - 1));
    END IF;
    INSERT INTO @schema@.pgqueuer_log (job_id, status, entrypoint, priority, traceback)
    VALUES (OLD.id, outcome, OLD.job_type, job_priority, record_of_error);
    -- A worker that is alive cancels the job when it hears this.
    IF outcome = 'canceled' THEN
        PERFORM pg_notify('ch_pgqueuer', json_build_object(
            'channel', 'ch_pgqueuer', 'sent_at', statement_timestamp(), 'type', 'cancellation_event',
            'ids', json_build_array(OLD.id))::text);
    END IF;
    NEW.status := outcome;
    NEW.completed_at := CASE WHEN outcome <> 'queued' THEN statement_timestamp() END;
    RETURN NEW;
END
$function$;
REVOKE ALL ON FUNCTION @schema@.jobexec_pgqueuer() FROM PUBLIC;

DO $do$
BEGIN
    IF NOT EXISTS (
        SELECT
        FROM pg_catalog.pg_trigger
        WHERE tgrelid = pg_catalog.to_regclass($name$@schema@.jobexec_pgqueuer$name$)
          AND tgname = 'jobexec_pgqueuer'
          AND tgfoid = pg_catalog.to_regprocedure($name$@schema@.jobexec_pgqueuer()$name$)
          AND tgenabled IN ('O', 'A')
    ) THEN
        DROP TRIGGER IF EXISTS jobexec_pgqueuer ON @schema@.jobexec_pgqueuer;
        CREATE TRIGGER jobexec_pgqueuer INSTEAD OF UPDATE ON @schema@.jobexec_pgqueuer
        FOR EACH ROW EXECUTE FUNCTION @schema@.jobexec_pgqueuer();
    END IF;
END
$do$;

COMMENT ON VIEW @schema@.jobexec_pgqueuer IS 'jobexec adapter pgqueuer 1';
COMMENT ON FUNCTION @schema@.jobexec_pgqueuer() IS 'jobexec adapter pgqueuer 1';
