-- Lets the operator end executions of Spring Batch as Spring Batch itself fails or stops them: the execution of the job and its
-- running steps, in one transaction, with new versions. Run it as the owner of the tables. Running it again changes nothing.

-- Completes the end of an execution that the operator writes. It runs as its owner, so that the operator's role needs no right on
-- the steps, and changes nothing but the running steps of the row that is ended and the row itself. A login that may write the status of
-- an execution can have it called, which lets them do no more than to end the steps together with their execution.
CREATE OR REPLACE FUNCTION @schema@.jobexec_spring_batch_end() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    -- The version tells a live worker that somebody else wrote the row: only then does it look at the status.
    NEW.version := OLD.version + 1;
    NEW.exit_code := NEW.status;
    NEW.last_updated := NEW.end_time;
    IF NEW.status = 'FAILED' THEN
        -- By this text the other triggers know the row.
        NEW.exit_message := left(COALESCE(NEW.exit_message, ''), 2400) || ' (ended by jobexec)';
    END IF;
    -- Ends all running steps, or none if a worker holds one: it may be about to commit. The version of a step fences its worker,
    -- whose next chunk finds no row to update and is rolled back.
    WITH held AS MATERIALIZED (
        SELECT step.step_execution_id
        FROM @schema@.batch_step_execution AS step
        WHERE step.job_execution_id = OLD.job_execution_id
          AND step.status IN ('STARTING', 'STARTED', 'STOPPING')
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE @schema@.batch_step_execution AS step
    SET status = NEW.status,
        exit_code = NEW.status,
        exit_message = NEW.exit_message,
        end_time = NEW.end_time,
        last_updated = NEW.end_time,
        version = step.version + 1
    WHERE step.step_execution_id = ANY (ARRAY (SELECT held.step_execution_id FROM held))
      AND (SELECT count(*) FROM held) = (
          SELECT count(*)
          FROM @schema@.batch_step_execution AS running
          WHERE running.job_execution_id = OLD.job_execution_id
            AND running.status IN ('STARTING', 'STARTED', 'STOPPING')
      );
    -- Without its steps the execution could never be restarted. It stays as it is, for the next sweep.
    IF EXISTS (
        SELECT FROM @schema@.batch_step_execution AS step
        WHERE step.job_execution_id = OLD.job_execution_id
          AND step.status IN ('STARTING', 'STARTED', 'STOPPING')
    ) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$function$;

-- Keeps the end that the operator wrote. A worker that lives after all reads the new version of its execution before it writes, so
-- that the version does not stop it: it would write UNKNOWN, which forbids a restart, or COMPLETED to the exit code. Its write
-- changes nothing instead of failing, so that it comes to its own end in order and calls its listeners.
CREATE OR REPLACE FUNCTION @schema@.jobexec_spring_batch_keep() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    NEW.status := OLD.status;
    NEW.exit_code := OLD.exit_code;
    NEW.exit_message := OLD.exit_message;
    NEW.start_time := OLD.start_time;
    NEW.end_time := OLD.end_time;
    RETURN NEW;
END
$function$;

-- Refuses a new step of an execution that the operator failed: a worker that was between two steps, or had not begun, would
-- otherwise go on beside a restart. It reads the row that the foreign key reads as well, in the same way, so that serializable
-- transactions, which Spring Batch uses here, meet no new conflicts.
CREATE OR REPLACE FUNCTION @schema@.jobexec_spring_batch_refuse() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF EXISTS (
        SELECT FROM @schema@.batch_job_execution AS execution
        WHERE execution.job_execution_id = NEW.job_execution_id
          AND execution.status = 'FAILED'
          AND execution.exit_message LIKE '% (ended by jobexec)'
    ) THEN
        RAISE EXCEPTION 'job execution % was ended by the jobexec operator', NEW.job_execution_id
        USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Its EXIT_MESSAGE tells why. Restart the job.';
    END IF;
    RETURN NEW;
END
$function$;

REVOKE ALL ON FUNCTION @schema@.jobexec_spring_batch_end() FROM PUBLIC;
COMMENT ON FUNCTION @schema@.jobexec_spring_batch_end() IS 'jobexec adapter spring-batch 1';
COMMENT ON FUNCTION @schema@.jobexec_spring_batch_keep() IS 'jobexec adapter spring-batch 1';
COMMENT ON FUNCTION @schema@.jobexec_spring_batch_refuse() IS 'jobexec adapter spring-batch 1';

-- The last sign of life of each running execution: the newest update of the execution or of any of its steps, finished ones too,
-- since between two steps none runs. Each running execution has a row from its beginning, so that none counts as missing. The
-- subquery costs one look at an index for each running execution, however many steps are kept of finished ones.
CREATE OR REPLACE VIEW @schema@.jobexec_spring_batch_heartbeats AS
SELECT execution.job_execution_id,
       GREATEST(execution.last_updated, (
           SELECT max(step.last_updated)
           FROM @schema@.batch_step_execution AS step
           WHERE step.job_execution_id = execution.job_execution_id
       )) AS last_updated
FROM @schema@.batch_job_execution AS execution
WHERE execution.status IN ('STARTING', 'STARTED', 'STOPPING');
COMMENT ON VIEW @schema@.jobexec_spring_batch_heartbeats IS 'jobexec adapter spring-batch 1';

-- Creates the triggers only where one is missing, disabled or of another version, since creating one waits for every transaction that
-- has written.
DO $install$
DECLARE
    present bigint;
BEGIN
    SELECT count(*) INTO present
    FROM pg_catalog.pg_trigger AS t
    WHERE (t.tgrelid, t.tgname, t.tgfoid) IN (
            ('@schema@.batch_job_execution'::pg_catalog.regclass, 'jobexec_spring_batch_end',
             '@schema@.jobexec_spring_batch_end()'::pg_catalog.regprocedure),
            ('@schema@.batch_job_execution'::pg_catalog.regclass, 'jobexec_spring_batch_keep',
             '@schema@.jobexec_spring_batch_keep()'::pg_catalog.regprocedure),
            ('@schema@.batch_step_execution'::pg_catalog.regclass, 'jobexec_spring_batch_refuse',
             '@schema@.jobexec_spring_batch_refuse()'::pg_catalog.regprocedure)
        )
        AND t.tgenabled IN ('O', 'A')
        AND pg_catalog.obj_description(t.oid, 'pg_trigger') = 'jobexec adapter spring-batch 1';
    IF present = 3 THEN
        RETURN;
    END IF;

    PERFORM pg_catalog.set_config('lock_timeout', '5s', true), pg_catalog.set_config('client_min_messages', 'warning', true);
    DROP TRIGGER IF EXISTS jobexec_spring_batch_end ON @schema@.batch_job_execution;
    DROP TRIGGER IF EXISTS jobexec_spring_batch_keep ON @schema@.batch_job_execution;
    DROP TRIGGER IF EXISTS jobexec_spring_batch_refuse ON @schema@.batch_step_execution;

    CREATE TRIGGER jobexec_spring_batch_end BEFORE UPDATE OF status ON @schema@.batch_job_execution FOR EACH ROW
    WHEN (OLD.status IN ('STARTING', 'STARTED', 'STOPPING') AND NEW.status IN ('FAILED', 'STOPPED')
        AND pg_catalog.current_setting('jobexec.ending', true) IN ('Fail', 'Cancel', 'Retry'))
    EXECUTE FUNCTION @schema@.jobexec_spring_batch_end();

    CREATE TRIGGER jobexec_spring_batch_keep BEFORE UPDATE OF status ON @schema@.batch_job_execution FOR EACH ROW
    WHEN (OLD.status = 'FAILED' AND OLD.exit_message LIKE '% (ended by jobexec)' AND NEW.status <> 'ABANDONED')
    EXECUTE FUNCTION @schema@.jobexec_spring_batch_keep();

    CREATE TRIGGER jobexec_spring_batch_refuse BEFORE INSERT ON @schema@.batch_step_execution FOR EACH ROW
    EXECUTE FUNCTION @schema@.jobexec_spring_batch_refuse();

    COMMENT ON TRIGGER jobexec_spring_batch_end ON @schema@.batch_job_execution IS 'jobexec adapter spring-batch 1';
    COMMENT ON TRIGGER jobexec_spring_batch_keep ON @schema@.batch_job_execution IS 'jobexec adapter spring-batch 1';
    COMMENT ON TRIGGER jobexec_spring_batch_refuse ON @schema@.batch_step_execution IS 'jobexec adapter spring-batch 1';
END
$install$;
