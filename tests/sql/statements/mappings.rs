//! Three mappings of a table, and the rows that the statements run on.

use jobexec_operator::api::ExecutionStore;
use serde_json::{Value, json};

/// A mapping of a table.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// Creates the tables and some rows.
    pub(super) tables: &'static str,
    spec: fn() -> Value,
}

impl Case {
    /// The store with this mapping.
    pub(super) fn store(&self) -> ExecutionStore {
        let mut store = json!({
            "apiVersion": "jobexec.dev/v1alpha1", "kind": "ExecutionStore", "metadata": {"name": "jobs"},
            "spec": (self.spec)(),
        });
        store["spec"]["connection"] = json!({"secretRef": {"name": "db"}});
        serde_json::from_value(store).unwrap()
    }
}

pub(super) const CASES: [Case; 3] = [
    Case { name: "default", tables: DEFAULT, spec: || json!({}) },
    Case {
        name: "local",
        tables: LOCAL,
        spec: || {
            json!({
                "table": {"name": "runs", "timeZone": "Europe/Berlin", "columns": {"deadlineAt": "until"},
                    "retry": {"method": "NewExecution", "copyColumns": ["worker_id"]}},
                "heartbeatTimeout": "10m",
                "heartbeat": {"table": "workers", "key": "id", "by": "worker_id", "at": "seen"},
            })
        },
    },
    Case { name: "full", tables: FULL, spec: full },
];

/// The mapping of the documentation.
const DEFAULT: &str = "
    CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint NOT NULL, execution_number integer NOT NULL,
        status text NOT NULL, started_at timestamptz, completed_at timestamptz);
    INSERT INTO job_executions VALUES
        (1, 1, 1, 'running', now() - interval '90 hours', NULL), (2, 1, 2, 'running', now(), NULL),
        (3, 2, 1, 'completed', now() - interval '3 hours', now() - interval '2 hours'),
        (4, 2, 2, 'failed', now() - interval '90 hours', now() - interval '50 hours'),
        (5, 3, 1, 'scheduled', NULL, NULL), (6, 3, 2, 'running', NULL, NULL), (7, 7, 1, 'running', now(), NULL)";

/// Local times, text ids, heartbeats of workers, and retries in new rows.
const LOCAL: &str = "
    CREATE TABLE runs (id text PRIMARY KEY DEFAULT gen_random_uuid(), job_id text NOT NULL, execution_number integer NOT NULL,
        status text NOT NULL, started_at timestamp, completed_at timestamp, worker_id bigint, until timestamp);
    CREATE TABLE workers (id bigint PRIMARY KEY, seen timestamp);
    INSERT INTO workers VALUES (1, now() AT TIME ZONE 'Europe/Berlin');
    INSERT INTO runs VALUES
        ('1', '1', 1, 'running', now() - interval '90 hours', NULL),
        ('2', '1', 2, 'running', now() AT TIME ZONE 'Europe/Berlin', NULL),
        ('3', '2', 1, 'completed', now() - interval '3 hours', now() - interval '2 hours'),
        ('4', '2', 2, 'failed', now() - interval '90 hours', now() - interval '50 hours'),
        ('5', '3', 1, 'scheduled', NULL, NULL), ('6', '3', 2, 'running', NULL, NULL),
        ('7', '7', 1, 'running', now() AT TIME ZONE 'Europe/Berlin', NULL);
    UPDATE runs SET worker_id = 1 WHERE status = 'running' AND id <> '7';
    UPDATE runs SET worker_id = 2 WHERE id = '7'";

/// Every column, all evidence, and retries in the same row.
const FULL: &str = "
    CREATE SCHEMA app;
    CREATE TABLE app.runs (run uuid PRIMARY KEY, job bigint, attempt integer, state text, begun timestamptz,
        ended timestamptz, why text, kind text, beat timestamptz, worker text, pod text, made timestamptz,
        paused_seconds integer, owner text, tenant text, deleted_at timestamptz, max_run interval, run_at timestamptz, tries integer,
        progress jsonb, progress_at timestamptz);
    CREATE TABLE app.jobs (id bigint PRIMARY KEY, state text, kind text, ended timestamptz);
    INSERT INTO app.jobs VALUES (1, 'open', 'etl', NULL), (2, 'done', 'report', now()), (3, 'open', 'etl', NULL);
    INSERT INTO app.runs SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid, job, attempt, state, begun, ended,
        NULL, kind, begun, 'worker-1', 'Job/nightly', begun, 60, 'owner@example.org', 'us', NULL
    FROM (VALUES
        (1, 1, 1, 'running', now() - interval '90 hours', NULL, 'etl'), (2, 1, 2, 'running', now(), NULL, 'etl'),
        (3, 2, 1, 'completed', now() - interval '3 hours', now() - interval '2 hours', 'report'),
        (4, 2, 2, 'failed', now() - interval '90 hours', now() - interval '50 hours', 'report'),
        (5, 3, 1, 'scheduled', NULL, NULL, 'etl'), (6, 3, 2, 'running', NULL, NULL, 'etl'),
        (7, 7, 1, 'running', now(), NULL, 'etl'), (8, 3, 3, 'on hold', now() - interval '5 hours', NULL, 'etl')
    ) AS r (n, job, attempt, state, begun, ended, kind)";

fn full() -> Value {
    json!({
        "table": {
            "schema": "app", "name": "runs",
            "columns": {
                "id": "run", "jobId": "job", "executionNumber": "attempt", "status": "state", "startedAt": "begun",
                "completedAt": "ended", "error": "why", "jobType": "kind", "heartbeatAt": "beat", "worker": "worker",
                "workload": "pod", "createdAt": "made", "pausedSeconds": "paused_seconds", "owner": "owner",
                "timeout": "max_run", "scheduledAt": "run_at", "attempt": "tries", "checkpoint": "progress",
                "checkpointAt": "progress_at",
            },
            "retry": {"method": "InPlace"},
            "statuses": {"paused": ["on hold"], "ignored": ["skipped"], "running": ["running", "it's on"]},
            "filter": [
                {"column": "tenant", "in": ["us", "it's us"]},
                {"column": "deleted_at", "isNull": true},
            ],
        },
        "jobs": {
            "schema": "app", "name": "jobs", "finished": ["done"],
            "columns": {"status": "state", "type": "kind", "finishedAt": "ended"},
        },
        "heartbeatTimeout": "10m", "singleActiveExecution": {}, "workloads": {},
    })
}
