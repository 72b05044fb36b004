-- The case: job 21 is completed, but its execution 39 has been running since August 2025, because its worker died.
-- Times are UTC in columns without time zone. Plain SQL only: the demo runs it with psql, the tests on the server.

CREATE TABLE jobs (
    id     bigint PRIMARY KEY,
    name   text   NOT NULL,
    status text   NOT NULL
);

CREATE TABLE job_executions (
    id               bigint  PRIMARY KEY,
    job_id           bigint  NOT NULL REFERENCES jobs,
    execution_number integer NOT NULL,
    status           text    NOT NULL,
    started_at       timestamp,
    completed_at     timestamp,
    UNIQUE (job_id, execution_number)
);

INSERT INTO jobs (id, name, status) VALUES
    (20, 'import-orders', 'completed'),
    (21, 'send-invoices', 'completed'),
    (22, 'build-report', 'running');

-- Each finished execution took ten minutes.
INSERT INTO job_executions (id, job_id, execution_number, status, started_at, completed_at) VALUES
    (29, 20, 1, 'completed', timestamp '2025-08-07 04:53:32.665925' - interval '10 minutes', '2025-08-07 04:53:32.665925'),
    (35, 21, 1, 'completed', timestamp '2025-08-07 16:23:38.5757' - interval '10 minutes', '2025-08-07 16:23:38.5757'),
    (36, 21, 2, 'completed', timestamp '2025-08-07 17:23:53.5757' - interval '10 minutes', '2025-08-07 17:23:53.5757'),
    (31, 20, 2, 'completed', timestamp '2025-08-07 05:00:30.143459' - interval '10 minutes', '2025-08-07 05:00:30.143459'),
    (32, 20, 3, 'completed', timestamp '2025-08-07 05:27:05.377799' - interval '10 minutes', '2025-08-07 05:27:05.377799'),
    (37, 21, 3, 'failed', timestamp '2025-08-07 17:53:18.5757' - interval '10 minutes', '2025-08-07 17:53:18.5757'),
    (38, 21, 4, 'completed', timestamp '2025-08-07 18:08:33.5757' - interval '10 minutes', '2025-08-07 18:08:33.5757'),
    (39, 21, 5, 'running', '2025-08-07 18:18:08.5757', NULL);

-- A live execution, which started two minutes ago.
INSERT INTO job_executions (id, job_id, execution_number, status, started_at) VALUES
    (40, 22, 1, 'running', (now() AT TIME ZONE 'UTC') - interval '2 minutes');
