-- Whom to tell of what was done.

-- Whether anybody wants to be told: by that the statements know that write to the outbox.
ALTER TABLE jobexec.stores ADD COLUMN IF NOT EXISTS notifies boolean;
-- When messages were last written, and since when people know of trouble and were not told yet that it is over.
ALTER TABLE jobexec.stores ADD COLUMN IF NOT EXISTS told_at timestamptz;
ALTER TABLE jobexec.stores ADD COLUMN IF NOT EXISTS unwell_since timestamptz;

-- What happened and was not made messages of yet: one row for each statement, written by it.
CREATE TABLE IF NOT EXISTS jobexec.outbox (
    outbox_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    store_id  integer     NOT NULL, -- no foreign key: it would lock the store's row for every statement
    at        timestamptz NOT NULL,
    event_ids bigint[]    NOT NULL, -- of jobexec.events
    topic     text,                 -- 'Breaker' or 'Recovered', which is about the store itself
    note      text
);
CREATE INDEX IF NOT EXISTS outbox_store ON jobexec.outbox (store_id);

-- The messages. Those that were delivered or given up stay as long as records of what was done do.
CREATE TABLE IF NOT EXISTS jobexec.messages (
    message_id      uuid        PRIMARY KEY, -- the same for each attempt
    store_id        integer     NOT NULL,
    channel         text        NOT NULL,    -- of the store, or 'policy/channel'
    recipient       text        NOT NULL,    -- an address; '' for a webhook
    message         jsonb       NOT NULL,
    created_at      timestamptz NOT NULL,
    attempts        integer     NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    ended_at        timestamptz,             -- NULL: it is still to be delivered
    outcome         text,                    -- 'Delivered' or 'GivenUp'
    error           text                     -- of the last attempt that failed
);
CREATE INDEX IF NOT EXISTS messages_due ON jobexec.messages (store_id, next_attempt_at) WHERE ended_at IS NULL;
CREATE INDEX IF NOT EXISTS messages_ended ON jobexec.messages (store_id, ended_at) WHERE ended_at IS NOT NULL;
