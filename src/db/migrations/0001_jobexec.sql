-- The operator's own tables. Everything here is additive: an older operator must be able to start on it. And it may be
-- repeated, which makes again what somebody has dropped.

-- Which tables of executions this database holds, and which ExecutionStore looks after each.
CREATE TABLE IF NOT EXISTS jobexec.stores (
    store_id     integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_schema text        NOT NULL,
    table_name   text        NOT NULL,
    uid          text,        -- of the ExecutionStore that claims the table; NULL: nobody
    namespace    text,
    name         text,
    seen_at      timestamptz, -- when its operator last confirmed the claim
    watched_since timestamptz, -- since when it has done so without a gap: evidence of life counts from then
    paused_at    timestamptz, -- when the breaker opened; NULL: it is closed
    paused_why   text,
    UNIQUE (table_schema, table_name)
);

-- What is in force, each part of it with the object that it comes from: NULL leaves a part to the next scope.
CREATE TABLE IF NOT EXISTS jobexec.rules (
    store_id          integer  NOT NULL REFERENCES jobexec.stores,
    scope             text     NOT NULL, -- 'execution', 'job', 'type', or 'store': what holds without any other
    key               text     NOT NULL, -- the execution's id, the job's id, the type; '' for the store
    timeout           interval,
    timeout_rank      smallint,          -- of several timeouts of an execution the one of the lowest rank counts
    timeout_source    text,              -- for example ExecutionPolicy/nightly
    extend_by         interval,
    extend_source     text,
    grace             interval,
    grace_source      text,
    heartbeat         interval,
    heartbeat_source  text,
    on_timeout        text,              -- 'Fail', 'Cancel' or 'AlertOnly'
    on_timeout_source text,
    warn_after        interval,
    warn_percent      integer,           -- of the timeout
    warn_source       text,
    overruled         text[]   NOT NULL, -- what others of the same rank say in vain
    earliest          interval NOT NULL, -- no execution under this rule is overdue before it has run for so long
    fixed             boolean  NOT NULL, -- and all of them are then
    PRIMARY KEY (store_id, scope, key)
);

-- What history says to policies that ask it.
CREATE TABLE IF NOT EXISTS jobexec.figures (
    store_id    integer     NOT NULL REFERENCES jobexec.stores,
    policy_uid  text        NOT NULL,
    policy      text        NOT NULL, -- its name
    generation  bigint      NOT NULL, -- of its spec
    computed_at timestamptz NOT NULL,
    figures     jsonb       NOT NULL, -- [{"job_id", "job_type", "samples", "quantile", "timeout"}], times in seconds
    PRIMARY KEY (store_id, policy_uid)
);

-- Running executions that other evidence than a time in their row says are dead, and since when it has been seen to.
CREATE TABLE IF NOT EXISTS jobexec.suspects (
    store_id     integer     NOT NULL REFERENCES jobexec.stores,
    reason       text        NOT NULL, -- 'JobFinished' or 'WorkloadGone'
    execution_id text        NOT NULL,
    began_at     timestamptz NOT NULL, -- of the execution: ids may be used again
    since        timestamptz NOT NULL,
    PRIMARY KEY (store_id, reason, execution_id)
);

-- The sweeps that changed something. announced_at: when Kubernetes was told by an Event.
CREATE TABLE IF NOT EXISTS jobexec.sweeps (
    sweep_id     uuid        PRIMARY KEY,
    store_id     integer     NOT NULL REFERENCES jobexec.stores,
    trigger      text        NOT NULL,
    started_at   timestamptz NOT NULL,
    failed       bigint      NOT NULL,
    announced_at timestamptz
);
CREATE INDEX IF NOT EXISTS sweeps_unannounced ON jobexec.sweeps (store_id) WHERE announced_at IS NULL;

-- What was done to which execution, when, why, and by which rule: written in the statement that did it.
CREATE TABLE IF NOT EXISTS jobexec.events (
    event_id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at               timestamptz NOT NULL,
    store_id         integer     NOT NULL, -- no foreign key: it would lock the store's row for every event
    sweep_id         uuid,
    execution_id     text        NOT NULL,
    job_id           text,
    execution_number bigint,
    action           text        NOT NULL, -- 'Failed', 'Cancelled', 'Warned', 'Alerted', 'Extended'
    reason           text        NOT NULL, -- for example 'DeadlineExceeded'
    source           text        NOT NULL, -- the object that says so
    actor            text,                 -- who asked for it, as far as the Kubernetes API tells
    note             text,
    started_at       timestamptz,
    deadline         timestamptz
);
CREATE INDEX IF NOT EXISTS events_execution ON jobexec.events (store_id, execution_id);
-- Each execution is warned of once, and alerted of once.
CREATE UNIQUE INDEX IF NOT EXISTS events_once ON jobexec.events (store_id, execution_id, action, started_at)
    WHERE action IN ('Warned', 'Alerted');
CREATE INDEX IF NOT EXISTS events_sweep ON jobexec.events (sweep_id);
