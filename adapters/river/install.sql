-- Makes the operator's statement end a job of River as River's own rescuer and its JobCancel do. Run it as the owner of river_job.
-- It may be run again: what is there is left as it is.

-- Turns the end that the operator writes into what River writes. It runs as the role that changes the row, and reads and writes
-- nothing else, so that a login that names an ending itself gains nothing.
CREATE OR REPLACE FUNCTION @schema@.jobexec_river() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    ending CONSTANT text := current_setting('jobexec.ending', true);
    now_utc CONSTANT text := to_char(statement_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
    requested CONSTANT text := OLD.metadata ->> 'cancel_attempted_at';
    requested_at timestamptz;
    failures CONSTANT double precision := coalesce(cardinality(OLD.errors), 0) + 1;
    rescues numeric := 0;
BEGIN
    IF ending = 'Cancel' AND requested IS NOT NULL THEN
        -- A client that misses the notification finds the request within a minute (NotificationPollInterval): a job that still
        -- runs after two has no client that stops it.
        BEGIN
            requested_at := requested::timestamptz;
        EXCEPTION WHEN data_exception THEN
            requested_at := '-infinity'; -- Not a time, so not written by River: the job must not escape its end for ever.
        END;
        IF requested_at > statement_timestamp() - interval '2 minutes' THEN
            RETURN OLD;
        END IF;
    END IF;

    -- Tells a client that still runs the job to stop, as JobCancel does. It is delivered with the commit, before a retry can start.
    PERFORM pg_notify(
        TG_TABLE_SCHEMA || '.river_control',
        json_build_object('action', 'cancel', 'job_id', OLD.id, 'queue', OLD.queue)::text
    );

    IF ending = 'Cancel' AND requested IS NULL THEN
        NEW.state := OLD.state;
        NEW.finalized_at := OLD.finalized_at;
        NEW.metadata := OLD.metadata || jsonb_build_object('cancel_attempted_at', now_utc);
        RETURN NEW;
    END IF;

    IF jsonb_typeof(OLD.metadata -> 'river:rescue_count') = 'number' THEN
        rescues := (OLD.metadata ->> 'river:rescue_count')::numeric;
    END IF;
    NEW.metadata := OLD.metadata || jsonb_build_object('river:rescue_count', rescues + 1);
    NEW.errors := array_append(OLD.errors, jsonb_build_object(
        'at', now_utc,
        'attempt', OLD.attempt,
        'error', CASE ending
            WHEN 'Retry' THEN 'Stuck job rescued by the jobexec operator'
            ELSE 'Stuck job ended by the jobexec operator'
        END,
        'trace', ''
    ));

    IF requested IS NOT NULL THEN
        NEW.state := 'cancelled';
    ELSIF ending = 'Retry' AND OLD.attempt < OLD.max_attempts THEN
        NEW.state := 'retryable';
        NEW.finalized_at := NULL;
        -- River's default: the fourth power of the number of errors in seconds, 10% more or less, at most what a Go duration holds.
        NEW.scheduled_at := statement_timestamp()
            + make_interval(secs => least(power(failures, 4) * (0.9 + 0.2 * random()), 9223372036));
        NEW.metadata := NEW.metadata || jsonb_build_object('jobexec:retried', OLD.attempt);
    END IF;
    RETURN NEW;
END
$function$;

-- Ignores the finish of an attempt that the operator retried when a later attempt runs: the client then sees a job that somebody
-- else changed, and leaves it.
CREATE OR REPLACE FUNCTION @schema@.jobexec_river_fence() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RAISE LOG 'the finish (%) of an earlier attempt of job % was ignored: attempt % runs', NEW.state, OLD.id, OLD.attempt;
    RETURN NULL;
END
$function$;

REVOKE ALL ON FUNCTION @schema@.jobexec_river() FROM PUBLIC;
REVOKE ALL ON FUNCTION @schema@.jobexec_river_fence() FROM PUBLIC;
COMMENT ON FUNCTION @schema@.jobexec_river() IS 'jobexec adapter river 1';
COMMENT ON FUNCTION @schema@.jobexec_river_fence() IS 'jobexec adapter river 1';

-- Creates the triggers only where they are missing or of another version, since that waits for every writer of the table.
DO $block$
DECLARE
    present bigint;
BEGIN
    SELECT count(*) INTO present
    FROM pg_catalog.pg_trigger AS t
    WHERE t.tgrelid = '@schema@.river_job'::pg_catalog.regclass
        AND (t.tgname, t.tgfoid) IN (
            ('jobexec_river', '@schema@.jobexec_river()'::pg_catalog.regprocedure),
            ('jobexec_river_fence', '@schema@.jobexec_river_fence()'::pg_catalog.regprocedure)
        )
        AND t.tgenabled IN ('O', 'A')
        AND pg_catalog.obj_description(t.oid, 'pg_trigger') = 'jobexec adapter river 1';
    IF present = 2 THEN
        RETURN;
    END IF;

    PERFORM pg_catalog.set_config('lock_timeout', '5s', true);
    DROP TRIGGER IF EXISTS jobexec_river ON @schema@.river_job;
    DROP TRIGGER IF EXISTS jobexec_river_fence ON @schema@.river_job;

    CREATE TRIGGER jobexec_river BEFORE UPDATE OF state ON @schema@.river_job FOR EACH ROW
    WHEN (
        OLD.state = 'running' AND NEW.state IN ('discarded', 'cancelled')
        AND pg_catalog.current_setting('jobexec.ending', true) IN ('Fail', 'Cancel', 'Retry')
    )
    EXECUTE FUNCTION @schema@.jobexec_river();

    -- River compares the id and the state only. An error tells by its number which attempt it is of, and a snooze and an
    -- interruption by the attempt that they give back. A completion does not tell.
    CREATE TRIGGER jobexec_river_fence BEFORE UPDATE OF state ON @schema@.river_job FOR EACH ROW
    WHEN (
        OLD.state = 'running' AND NEW.state <> 'running' AND OLD.metadata ->> 'jobexec:retried' IS NOT NULL
        AND (
            NEW.attempt < OLD.attempt - 1
            OR (
                pg_catalog.cardinality(NEW.errors) > COALESCE(pg_catalog.cardinality(OLD.errors), 0)
                AND NEW.errors[pg_catalog.array_upper(NEW.errors, 1)] -> 'attempt' < pg_catalog.to_jsonb(OLD.attempt)
            )
        )
    )
    EXECUTE FUNCTION @schema@.jobexec_river_fence();

    COMMENT ON TRIGGER jobexec_river ON @schema@.river_job IS 'jobexec adapter river 1';
    COMMENT ON TRIGGER jobexec_river_fence ON @schema@.river_job IS 'jobexec adapter river 1';
END
$block$;
