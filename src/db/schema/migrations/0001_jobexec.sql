-- The operator's own tables. Later migrations only add to them: an older operator must be able to start on a newer
-- schema. Each migration may be repeated, which restores what somebody has dropped. No column has a default, and no
-- table a trigger or a rule: whatever of the kind is there was made by somebody else.

-- Which tables of executions this database holds, and which ExecutionStore enforces each. A table is known by its oid:
-- one that is renamed keeps its records, and one that takes an old name gets none before a person says so.
CREATE TABLE IF NOT EXISTS jobexec.stores (
    store_id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    registry      oid         NOT NULL,        -- of this very table: after a restore from a dump it has another one, and
                                               -- oids from before are those of other tables, or of none
    table_oid     oid         NOT NULL,        -- by the right on this table rows here and in the other tables are seen
    table_schema  text        NOT NULL,        -- its name when it was last looked at, for people
    table_name    text        NOT NULL,
    table_owner   text,        -- the role that owned it then
    uid           text,        -- of the ExecutionStore that claims the table; NULL: nobody
    namespace     text,
    name          text,
    seen_at       timestamptz, -- when its operator last confirmed the claim
    watched_since timestamptz, -- since when it has done so without a gap: evidence of life counts from then
    paused_at     timestamptz, -- when the breaker opened; NULL: it is closed
    paused_why    text,
    notifies      boolean,     -- whether anybody is to be notified: only then is anything written to the outbox
    told_at       timestamptz, -- when messages were last written
    unwell_since  timestamptz, -- since when people know of trouble and not yet that it is over
    server_started_at  timestamptz,   -- of the server that was last looked at
    heartbeats_doubted timestamptz,   -- when workers were last seen to have been cut off, as far as that can be seen
    heartbeats_why     text,          -- and by what
    heartbeats_held    timestamptz[], -- when lost heartbeats began to be held: for who was alive before, one timeout counts from then
    mapping       jsonb,       -- how its rows are read and judged: what of the store's spec decides that, written with the rules
    UNIQUE (registry, table_oid)
);

-- The rules in effect, each part with the object that it comes from. NULL leaves a part to the next scope.
CREATE TABLE IF NOT EXISTS jobexec.rules (
    store_id          bigint   NOT NULL REFERENCES jobexec.stores,
    scope             text     NOT NULL, -- 'execution', 'job', 'type', or 'store': what holds without any other
    key               text     NOT NULL, -- the execution's id, the job's id, the type; '' for the store
    timeout           interval,
    timeout_rank      smallint,          -- of several timeouts of an execution the one of the lowest rank counts
    timeout_source    text,              -- for example ExecutionPolicy/nightly
    extend_by         interval,
    extend_source     text,
    promised          timestamptz,       -- the deadline that an extended run had before the rules changed: no rule moves it before that
    promised_start    timestamptz,       -- of that run: when it started, or was first seen running
    promised_by       interval,          -- the extension for which it was promised: it counts while extend_by is no less
    grace             interval,
    grace_source      text,
    heartbeat         interval,
    heartbeat_source  text,
    on_stale        text,              -- 'Fail', 'Cancel', 'Retry' or 'AlertOnly'
    on_stale_source text,
    retry             jsonb,             -- for which reasons, how often and when executions run again
    retry_source      text,
    warn_after        interval,
    warn_percent      integer,           -- of the timeout
    warn_source       text,
    overruled         text[]   NOT NULL, -- objects of the same rank that do not count
    earliest          interval NOT NULL, -- no execution under this rule is overdue before it has run for so long
    fixed             boolean  NOT NULL, -- and all of them are then
    PRIMARY KEY (store_id, scope, key),
    -- From 0 to 1,000,000 hours, and without months: they compare as 30 days each and add up as what they are, so that an
    -- interval of months and days can be positive and yet lead back in time.
    CONSTRAINT rules_times_in_range CHECK (
        LEAST(timeout, extend_by, grace, heartbeat, warn_after, earliest) >= interval '0'
        AND GREATEST(timeout, extend_by, grace, heartbeat, warn_after, earliest) <= interval '1000000 hours'
        AND LEAST(date_trunc('month', timeout), date_trunc('month', extend_by), date_trunc('month', grace),
                  date_trunc('month', heartbeat), date_trunc('month', warn_after), date_trunc('month', earliest)) = interval '0'
        AND GREATEST(date_trunc('month', timeout), date_trunc('month', extend_by), date_trunc('month', grace),
                     date_trunc('month', heartbeat), date_trunc('month', warn_after), date_trunc('month', earliest)) = interval '0'),
    -- No more than an extension can give, and nothing that cannot be added to.
    CONSTRAINT rules_promise_in_range CHECK (
        promised_start BETWEEN '0001-01-01Z' AND '9999-12-31Z'
        AND promised - promised_start BETWEEN interval '0' AND interval '1000000 hours'),
    CONSTRAINT rules_no_negative_share CHECK (warn_percent >= 0),
    -- Numbers that can be calculated with. Times are at most a year, in milliseconds.
    CONSTRAINT rules_retry_in_range CHECK (
        CASE WHEN retry IS NULL THEN true
             WHEN jsonb_typeof(retry) IS DISTINCT FROM 'object'
                  OR jsonb_typeof(retry -> 'initial_ms') IS DISTINCT FROM 'number'
                  OR jsonb_typeof(retry -> 'factor_percent') IS DISTINCT FROM 'number'
                  OR jsonb_typeof(retry -> 'max_ms') IS DISTINCT FROM 'number'
                  OR jsonb_typeof(retry -> 'jitter_percent') IS DISTINCT FROM 'number'
                  OR jsonb_typeof(retry -> 'reasons') IS DISTINCT FROM 'array'
                  OR (retry ->> 'otherwise' IN ('Fail', 'Cancel')) IS NOT TRUE
                  OR COALESCE(jsonb_typeof(retry -> 'max_attempts'), 'null') NOT IN ('number', 'null')
                  OR COALESCE(jsonb_typeof(retry -> 'after_ms'), 'null') NOT IN ('number', 'null') THEN false
             ELSE (retry ->> 'initial_ms')::numeric BETWEEN 0 AND 31536000000
                  AND (retry ->> 'factor_percent')::numeric BETWEEN 100 AND 1000
                  AND (retry ->> 'max_ms')::numeric BETWEEN 0 AND 31536000000
                  AND (retry ->> 'jitter_percent')::numeric BETWEEN 0 AND 50
                  AND COALESCE((retry ->> 'max_attempts')::numeric, 1) BETWEEN 1 AND 100
                  AND COALESCE((retry ->> 'after_ms')::numeric, 0) BETWEEN 0 AND 31536000000
        END)
);

-- Timeouts computed from history, by the policy that asks for them.
CREATE TABLE IF NOT EXISTS jobexec.figures (
    store_id    bigint      NOT NULL REFERENCES jobexec.stores,
    policy_uid  text        NOT NULL,
    policy      text        NOT NULL, -- its name
    generation  bigint      NOT NULL, -- of its spec
    computed_at timestamptz NOT NULL,
    figures     jsonb       NOT NULL, -- [{"job_id", "job_type", "samples", "quantile", "timeout"}], times in seconds
    PRIMARY KEY (store_id, policy_uid)
);

-- Running executions that other evidence than a time in their row says are dead, and since when that has been seen. What is
-- not certain is reported, and a person decides.
CREATE TABLE IF NOT EXISTS jobexec.suspects (
    store_id     bigint      NOT NULL REFERENCES jobexec.stores,
    reason       text        NOT NULL, -- 'JobFinished' or 'WorkloadGone'
    execution_id text        NOT NULL,
    began_at     timestamptz NOT NULL, -- of the execution: ids may be used again
    since        timestamptz NOT NULL,
    certain      boolean     NOT NULL, -- whether it ends the execution without a person
    detail       text,                 -- what else is known of it, for example why its workload failed
    PRIMARY KEY (store_id, reason, execution_id)
);

-- What was seen of executions and is not in their rows, and since when. It is deleted once the execution has ended.
CREATE TABLE IF NOT EXISTS jobexec.observations (
    store_id     bigint      NOT NULL REFERENCES jobexec.stores,
    kind         text        NOT NULL, -- for example 'RunningWithoutStart'
    execution_id text        NOT NULL,
    started_at   timestamptz,          -- of the execution, if it has a start: ids may be used again
    since        timestamptz NOT NULL,
    total        interval,             -- what was counted, if something is
    detail       text,                 -- for example the UID of a workload
    PRIMARY KEY (store_id, kind, execution_id)
);

-- The retries of executions that were ended, and those that wait. The key makes a second retry of the same attempt impossible.
CREATE TABLE IF NOT EXISTS jobexec.retries (
    store_id     bigint      NOT NULL, -- no foreign key: it would lock the store's row for every retry
    execution_id text        NOT NULL, -- of the attempt that was ended
    attempt      integer     NOT NULL, -- its number, from 1
    reason       text        NOT NULL, -- why it was ended
    source       text        NOT NULL, -- the object that says so
    ended_at     timestamptz,          -- its end as its row says: a row that says something else is no longer as it was left
    alive_at     timestamptz,          -- when its worker was last known to be alive
    silence      interval,             -- how long it has to be silent from then on to be gone
    due_at       timestamptz NOT NULL, -- when the next attempt may start
    waits        boolean     NOT NULL, -- whether the worker is to be gone first
    forced       boolean     NOT NULL, -- whether a person asked for it: then the budget does not count
    tries        integer     NOT NULL, -- how often the next attempt was refused
    fault        text,                 -- and why
    next_id      text,                 -- the execution with the next attempt
    decided_at   timestamptz,          -- NULL: it waits
    outcome      text,                 -- 'Retried' or 'Dropped'
    PRIMARY KEY (store_id, execution_id, attempt),
    -- Numbers and times that can be calculated with.
    CONSTRAINT retries_in_range CHECK (
        attempt BETWEEN 1 AND 1000000 AND tries BETWEEN 0 AND 1000000
        AND due_at BETWEEN '0001-01-01Z' AND '9999-12-31Z'
        AND alive_at BETWEEN '0001-01-01Z' AND '9999-12-31Z'
        AND ended_at BETWEEN '0001-01-01Z' AND '9999-12-31Z'
        AND silence BETWEEN interval '0' AND interval '3000000 hours')
);
CREATE INDEX IF NOT EXISTS retries_pending ON jobexec.retries (store_id, due_at) WHERE decided_at IS NULL;
-- How many were retried within the last hour, and the attempts before an execution.
CREATE INDEX IF NOT EXISTS retries_decided ON jobexec.retries USING brin (decided_at) WITH (autosummarize = on);
CREATE INDEX IF NOT EXISTS retries_next ON jobexec.retries (store_id, next_id) WHERE next_id <> execution_id;

-- The sweeps that changed something. announced_at: when Kubernetes got an Event of it.
CREATE TABLE IF NOT EXISTS jobexec.sweeps (
    sweep_id     uuid        PRIMARY KEY,
    store_id     bigint      NOT NULL REFERENCES jobexec.stores,
    trigger      text        NOT NULL,
    started_at   timestamptz NOT NULL,
    failed       bigint      NOT NULL,
    announced_at timestamptz,
    uid          text         -- of the ExecutionStore that claimed the table then; another one publishes no Event of it
);
CREATE INDEX IF NOT EXISTS sweeps_unannounced ON jobexec.sweeps (store_id) WHERE announced_at IS NULL;
-- Old sweeps, to be deleted with their records.
CREATE INDEX IF NOT EXISTS sweeps_started ON jobexec.sweeps (store_id, started_at);

-- What was done to which execution, when, why, and by which rule: written in the statement that did it. The key begins
-- with the store, so that a number that somebody else chose stands in nobody's way.
CREATE TABLE IF NOT EXISTS jobexec.events (
    event_id         bigint      GENERATED ALWAYS AS IDENTITY,
    at               timestamptz NOT NULL,
    store_id         bigint      NOT NULL, -- no foreign key: it would lock the store's row for every event
    sweep_id         uuid,
    execution_id     text        NOT NULL,
    job_id           text,
    execution_number bigint,
    action           text        NOT NULL, -- 'Failed', 'Cancelled', 'FinishedLate', 'Warned', 'Alerted', 'DeadlineMoved', 'StartedAgain'
    reason           text        NOT NULL, -- for example 'DeadlineExceeded'
    source           text        NOT NULL, -- the object that says so
    actor            text,                 -- who asked for it, as far as the Kubernetes API tells
    note             text,
    started_at       timestamptz,
    deadline         timestamptz,
    again_at         timestamptz,          -- of an alert: when it was seen to run again with the start of a run that had ended
    PRIMARY KEY (store_id, event_id)
);
CREATE INDEX IF NOT EXISTS events_execution ON jobexec.events (store_id, execution_id);
-- Each run is warned of once, and alerted of once.
CREATE UNIQUE INDEX IF NOT EXISTS events_once ON jobexec.events
    (store_id, execution_id, action, started_at, COALESCE(again_at, '-infinity'::timestamptz))
    WHERE action IN ('Warned', 'Alerted');
-- The first records of a sweep, and its last one, in their order.
CREATE INDEX IF NOT EXISTS events_sweep ON jobexec.events (sweep_id, event_id);
-- Recent records are found without reading all of them. It costs next to nothing to keep.
CREATE INDEX IF NOT EXISTS events_at ON jobexec.events USING brin (at) WITH (autosummarize = on);

-- Health over time: one row per store a minute, written beside enforcement and kept for 30 days.
CREATE TABLE IF NOT EXISTS jobexec.samples (
    store_id     bigint      NOT NULL REFERENCES jobexec.stores,
    at           timestamptz NOT NULL, -- the full minute: of two operators one writes it
    running      bigint      NOT NULL,
    scheduled    bigint,               -- NULL: it could not be counted
    long_running bigint      NOT NULL,
    stale        bigint      NOT NULL,
    failed       bigint      NOT NULL, -- ended by the operator or a person since the sample before, for an hour at most
    PRIMARY KEY (store_id, at)
);

-- What happened and is not in a message yet: one row for each statement, written by it.
CREATE TABLE IF NOT EXISTS jobexec.outbox (
    outbox_id bigint      GENERATED ALWAYS AS IDENTITY,
    store_id  bigint      NOT NULL, -- no foreign key: it would lock the store's row for every statement
    at        timestamptz NOT NULL,
    event_ids bigint[]    NOT NULL, -- of jobexec.events
    topic     text,                 -- 'Breaker' or 'Recovered', which is about the store itself
    note      text,
    uid       text,                 -- of the ExecutionStore that claimed the table then; another one does not deliver it
    PRIMARY KEY (store_id, outbox_id)
);

-- The messages. Those that were delivered or given up stay as long as records do.
CREATE TABLE IF NOT EXISTS jobexec.messages (
    message_id      uuid        PRIMARY KEY, -- the same for each attempt
    store_id        bigint      NOT NULL,
    channel         text        NOT NULL,    -- of the store, or 'policy/channel'
    recipient       text        NOT NULL,    -- an address; '' for a webhook
    message         jsonb       NOT NULL,
    created_at      timestamptz NOT NULL,
    attempts        integer     NOT NULL,
    next_attempt_at timestamptz NOT NULL,
    ended_at        timestamptz,             -- NULL: it is still to be delivered
    outcome         text,                    -- 'Delivered' or 'GivenUp'
    error           text,                    -- of the last attempt that failed
    uid             text                     -- of the ExecutionStore that claimed the table then; another one does not deliver it
);
CREATE INDEX IF NOT EXISTS messages_due ON jobexec.messages (store_id, next_attempt_at) WHERE ended_at IS NULL;
CREATE INDEX IF NOT EXISTS messages_ended ON jobexec.messages (store_id, ended_at) WHERE ended_at IS NOT NULL;

-- Row security: whoever may UPDATE a table of executions sees and writes what is kept of it, and nothing else. The stores
-- are asked once a statement (a hashed subplan), not once a row. The owner of the tables is exempt. A record whose table is
-- gone is seen by its name, which anybody may take who can create a table: so nobody adds to such a record, and it is
-- changed or deleted only where the table that has its name now is owned by the role that owned the old one.
DO $$
DECLARE
    own text;
    command text;
    old_rows text; -- which rows a command may read, change or delete
    new_rows text; -- which rows it may write
    -- The table that has the name now; NULL: there is none, or none that this login may look for.
    by_name  text := 'CASE WHEN has_schema_privilege(to_regnamespace(quote_ident(table_schema))::oid, ''USAGE'') '
                     'THEN to_regclass(format(''%I.%I'', table_schema, table_name))::oid END';
    by_oid   text := 'has_any_column_privilege(table_oid, ''UPDATE'')'; -- NULL: there is no table with this oid
    -- What is left of a table that is gone, or comes from a dump, goes by the name.
    of_table text := format('COALESCE(CASE WHEN registry = tableoid THEN %s END, has_any_column_privilege(%s, ''UPDATE''))',
                            by_oid, by_name);
    -- Roles may have other names where a dump was restored, and there the table comes with its record.
    of_owner text := format('registry <> tableoid OR %s IS NOT NULL OR EXISTS (SELECT FROM pg_class WHERE pg_class.oid = %s '
                            'AND pg_get_userbyid(relowner) = table_owner)', by_oid, by_name);
    -- Nobody writes a name or an owner that is not that of the table: after its end they open the record, and vouch for it.
    to_table text := format('registry = tableoid AND %s AND table_oid = %s AND EXISTS (SELECT FROM pg_class '
                            'WHERE pg_class.oid = table_oid AND pg_get_userbyid(relowner) = table_owner)', by_oid, by_name);
BEGIN
    FOREACH own IN ARRAY ARRAY['stores', 'rules', 'figures', 'suspects', 'observations', 'retries', 'sweeps', 'events', 'samples', 'outbox', 'messages']
    LOOP
        IF NOT (SELECT relrowsecurity FROM pg_class WHERE oid = format('jobexec.%I', own)::regclass) THEN
            EXECUTE format('ALTER TABLE jobexec.%I ENABLE ROW LEVEL SECURITY', own);
        END IF;
        FOREACH command IN ARRAY ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']
        LOOP
            CONTINUE WHEN EXISTS (SELECT FROM pg_policy WHERE polrelid = format('jobexec.%I', own)::regclass
                                  AND polname = 'may_' || lower(command));
            old_rows := CASE WHEN command = 'SELECT' THEN of_table ELSE format('(%s) AND %s', of_owner, of_table) END;
            new_rows := to_table;
            IF own <> 'stores' THEN
                old_rows := 'store_id IN (SELECT store_id FROM jobexec.stores'
                            || CASE WHEN command = 'SELECT' THEN ')' ELSE format(' WHERE %s)', of_owner) END;
                new_rows := format('store_id IN (SELECT store_id FROM jobexec.stores WHERE registry = tableoid AND %s)', by_oid);
            END IF;
            EXECUTE format('CREATE POLICY %I ON jobexec.%I FOR %s', 'may_' || lower(command), own, command)
                    || CASE WHEN command = 'INSERT' THEN '' ELSE format(' USING (%s)', old_rows) END
                    || CASE WHEN command IN ('INSERT', 'UPDATE') THEN format(' WITH CHECK (%s)', new_rows) ELSE '' END;
        END LOOP;
    END LOOP;
END $$;

-- Default privileges may have granted more than anybody needs.
REVOKE ALL ON SCHEMA jobexec FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA jobexec FROM PUBLIC;

-- Nobody needs a right on the sequences that numbers come from, whatever default privileges have granted.
DO $$
DECLARE
    owned record;
BEGIN
    FOR owned IN
        SELECT DISTINCT c.oid::regclass AS name, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee
        FROM pg_depend AS d JOIN pg_class AS t ON t.oid = d.refobjid JOIN pg_class AS c ON c.oid = d.objid, aclexplode(c.relacl) AS a
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'i' AND c.relkind = 'S'
          AND t.relnamespace = 'jobexec'::regnamespace AND t.relkind = 'r' AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('REVOKE ALL ON SEQUENCE %s FROM %s CASCADE', owned.name, owned.grantee);
    END LOOP;
END $$;
