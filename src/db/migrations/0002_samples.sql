-- Health over time: one row per store a minute, written beside enforcement and kept for 30 days.
CREATE TABLE IF NOT EXISTS jobexec.samples (
    store_id     integer     NOT NULL REFERENCES jobexec.stores,
    at           timestamptz NOT NULL, -- the full minute: of two operators one writes it
    running      bigint      NOT NULL,
    scheduled    bigint,               -- NULL: it could not be counted
    long_running bigint      NOT NULL,
    stale        bigint      NOT NULL,
    failed       bigint      NOT NULL, -- ended by the operator or a person since the sample before, for an hour at the most
    PRIMARY KEY (store_id, at)
);
-- What was done lately is found without reading all of it. It costs next to nothing to keep.
CREATE INDEX IF NOT EXISTS events_at ON jobexec.events USING brin (at) WITH (autosummarize = on);
