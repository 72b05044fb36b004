-- Makes the operator's statement end a job of pg-boss as pg-boss's own expiry, fail() and cancel() do. Run it as the owner of job.
-- It may be run again: what is there is left as it is.

-- The jobs as executions. The id has the queue, because pg-boss keeps ids unique in a queue only. A heartbeat counts only where one
-- is asked for: pg-boss fills heartbeat_on of every job when a worker takes it.
CREATE OR REPLACE VIEW @schema@.jobexec_pg_boss AS
SELECT
    job.name || '/' || job.id::text AS id,
    job.id AS job_id,
    job.name AS job_type,
    job.retry_count + 1 AS attempt,
    job.state AS status,
    job.created_on AS created_at,
    job.start_after AS scheduled_at,
    job.started_on AS started_at,
    CASE WHEN job.heartbeat_seconds IS NOT NULL THEN job.heartbeat_on END AS heartbeat_at,
    pg_catalog.make_interval(secs => job.heartbeat_seconds::double precision) AS heartbeat_timeout,
    pg_catalog.make_interval(secs => job.expire_seconds::double precision) AS timeout,
    job.completed_on AS completed_at,
    COALESCE(job.output -> 'value' ->> 'message', job.output ->> 'message') AS error
FROM @schema@.job AS job;

-- Does what pg-boss does with a job that it gives up. It runs as the owner, so that the operator's role needs rights on the view
-- only: a login with these rights can end running jobs, with or without the operator, and nothing else.
CREATE OR REPLACE FUNCTION @schema@.jobexec_pg_boss() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    ending CONSTANT text := current_setting('jobexec.ending', true);
    meant CONSTANT text := CASE WHEN ending IN ('Fail', 'Retry') THEN 'failed' WHEN ending = 'Cancel' THEN 'cancelled' END;
    ended_at CONSTANT timestamptz := coalesce(NEW.completed_at, statement_timestamp());
    delay double precision;
    reason jsonb;
    claimed @schema@.job%ROWTYPE;
BEGIN
    -- A login that is not the operator names no ending, and changes nothing.
    IF OLD.status <> 'active' OR meant IS NULL OR NEW.status::text IS DISTINCT FROM meant THEN
        RETURN NULL;
    END IF;

    -- The attempt that was judged, and no later one: every claim counts retry_count up, or starts a job again.
    SELECT job.* INTO claimed
    FROM @schema@.job AS job
    WHERE job.name = OLD.job_type
        AND job.id = OLD.job_id
        AND job.state = 'active'
        AND job.retry_count = OLD.attempt - 1
        AND job.started_on IS NOT DISTINCT FROM OLD.started_at
    FOR NO KEY UPDATE OF job;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;

    NEW.completed_at := ended_at;
    IF ending = 'Cancel' THEN
        UPDATE @schema@.job AS job SET state = 'cancelled', completed_on = ended_at
        WHERE job.name = claimed.name AND job.id = claimed.id;
        RETURN NEW;
    END IF;

    -- The form of the errors that pg-boss's own expiry writes. The reason may be, word for word, that of the attempt before.
    reason := jsonb_build_object('value', jsonb_build_object('message', coalesce(NEW.error, 'ended by the jobexec operator')));

    IF ending = 'Retry' AND claimed.retry_count < claimed.retry_limit THEN
        delay := claimed.retry_delay;
        IF claimed.retry_backoff THEN
            delay := least(
                claimed.retry_delay_max,
                greatest(claimed.retry_delay, 1) * power(2, least(16, claimed.retry_count + 1)) / 2 * (1 + random())
            );
        END IF;
        NEW.status := 'retry';
        NEW.completed_at := NULL;
        NEW.scheduled_at := ended_at + make_interval(secs => delay);
        NEW.heartbeat_at := NULL;
        IF claimed.policy IS DISTINCT FROM 'stately' THEN
            UPDATE @schema@.job AS job
            SET state = 'retry', completed_on = NULL, start_after = NEW.scheduled_at, heartbeat_on = NULL, output = reason,
                upsert_by_key = NULL
            WHERE job.name = claimed.name AND job.id = claimed.id;
            RETURN NEW;
        END IF;
        -- Only this policy has one place for the waiting retries of a key. Where it is taken, pg-boss fails the job. Trying costs
        -- a subtransaction, so the other policies do without.
        BEGIN
            UPDATE @schema@.job AS job
            SET state = 'retry', completed_on = NULL, start_after = NEW.scheduled_at, heartbeat_on = NULL, output = reason,
                upsert_by_key = NULL
            WHERE job.name = claimed.name AND job.id = claimed.id;
            RETURN NEW;
        EXCEPTION WHEN unique_violation THEN
            NEW.completed_at := ended_at;
            NEW.scheduled_at := OLD.scheduled_at;
        END;
    END IF;

    NEW.status := 'failed';
    NEW.heartbeat_at := NULL;
    UPDATE @schema@.job AS job
    SET state = 'failed', completed_on = ended_at, heartbeat_on = NULL, output = reason, upsert_by_key = NULL
    WHERE job.name = claimed.name AND job.id = claimed.id;

    IF claimed.dead_letter IS NOT NULL THEN
        INSERT INTO @schema@.job (
            name, priority, data, retry_limit, retry_backoff, retry_delay, start_after, created_on, keep_until, deletion_seconds,
            expire_seconds, singleton_key, group_id, group_tier, heartbeat_seconds, source_name, source_id, source_created_on,
            source_retry_count, source_output, source_root_id, trace_context
        )
        SELECT
            claimed.dead_letter, claimed.priority, claimed.data, queue.retry_limit, queue.retry_backoff, queue.retry_delay,
            ended_at, ended_at, ended_at + make_interval(secs => queue.retention_seconds), queue.deletion_seconds,
            queue.expire_seconds, claimed.singleton_key, claimed.group_id, claimed.group_tier, queue.heartbeat_seconds,
            claimed.name, claimed.id, claimed.created_on, claimed.retry_count, reason,
            coalesce(claimed.source_root_id, claimed.id), claimed.trace_context
        FROM @schema@.queue AS queue
        WHERE queue.name = claimed.dead_letter;
    END IF;
    RETURN NEW;
END
$function$;

REVOKE ALL ON FUNCTION @schema@.jobexec_pg_boss() FROM PUBLIC;
COMMENT ON FUNCTION @schema@.jobexec_pg_boss() IS 'jobexec adapter pg-boss 2';
COMMENT ON VIEW @schema@.jobexec_pg_boss IS 'jobexec adapter pg-boss 2';

DO $block$
BEGIN
    IF EXISTS (
        SELECT
        FROM pg_catalog.pg_trigger AS t
        WHERE t.tgrelid = '@schema@.jobexec_pg_boss'::pg_catalog.regclass
            AND t.tgname = 'jobexec_pg_boss'
            AND t.tgfoid = '@schema@.jobexec_pg_boss()'::pg_catalog.regprocedure
            AND t.tgenabled IN ('O', 'A')
            AND pg_catalog.obj_description(t.oid, 'pg_trigger') = 'jobexec adapter pg-boss 2'
    ) THEN
        RETURN;
    END IF;

    PERFORM pg_catalog.set_config('lock_timeout', '5s', true);
    DROP TRIGGER IF EXISTS jobexec_pg_boss ON @schema@.jobexec_pg_boss;
    CREATE TRIGGER jobexec_pg_boss INSTEAD OF UPDATE ON @schema@.jobexec_pg_boss FOR EACH ROW
    EXECUTE FUNCTION @schema@.jobexec_pg_boss();
    COMMENT ON TRIGGER jobexec_pg_boss ON @schema@.jobexec_pg_boss IS 'jobexec adapter pg-boss 2';
END
$block$;
