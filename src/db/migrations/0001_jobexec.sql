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
    UNIQUE (table_schema, table_name)
);

-- The timeouts in force beside the store's default, each with the object that it comes from.
CREATE TABLE IF NOT EXISTS jobexec.rules (
    store_id integer  NOT NULL REFERENCES jobexec.stores,
    scope    text     NOT NULL, -- 'execution'
    key      text     NOT NULL, -- the execution's id
    timeout  interval,          -- NULL: the next rule's
    grace    interval,          -- NULL: the next rule's
    source   text     NOT NULL, -- for example JobExecution/nightly
    PRIMARY KEY (store_id, scope, key)
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
    action           text        NOT NULL, -- 'Failed'
    reason           text        NOT NULL, -- 'DeadlineExceeded'
    source           text        NOT NULL, -- the object whose timeout it was
    started_at       timestamptz,
    deadline         timestamptz
);
CREATE INDEX IF NOT EXISTS events_execution ON jobexec.events (store_id, execution_id);
CREATE INDEX IF NOT EXISTS events_sweep ON jobexec.events (sweep_id);
