//! Views as the table of executions, with the triggers that write to the tables beneath them.

use jobexec_operator::api::ExecutionStoreStatus;
use serde_json::{Value, json};

use crate::support::{World, is, message};

/// A queue without a status and without an end: a job that is locked runs, one whose attempts are used up has failed.
const QUEUE: &str = "CREATE SCHEMA queue; \
    CREATE TABLE queue.jobs (id bigint PRIMARY KEY, kind text NOT NULL, locked_at timestamptz, attempts integer NOT NULL, \
        last_error text, failed_at timestamptz, stopped_at timestamptz, asked_at timestamptz, claimed_again boolean DEFAULT false); \
    CREATE VIEW queue.executions AS SELECT id, kind, locked_at, attempts, last_error, COALESCE(failed_at, stopped_at) AS ended_at, \
        CASE WHEN locked_at IS NOT NULL THEN 'running' WHEN failed_at IS NOT NULL THEN 'failed' \
             WHEN stopped_at IS NOT NULL THEN 'stopped' ELSE 'waiting' END AS state FROM queue.jobs;";

/// Ends a job of the queue by the action that the operator announces.
const TRIGGER: &str = "CREATE FUNCTION queue.end_job() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER \
    SET search_path = pg_catalog, pg_temp AS $$ \
    DECLARE ending CONSTANT text := current_setting('jobexec.ending', true); \
    BEGIN \
        IF NEW.kind = 'raises' THEN RAISE 'this job is not to be ended'; END IF; \
        IF NEW.kind = 'asks' AND ending = 'Cancel' THEN \
            UPDATE queue.jobs SET asked_at = COALESCE(asked_at, statement_timestamp()) WHERE id = OLD.id; \
            NEW.state := 'running'; RETURN NEW; \
        END IF; \
        IF NEW.kind IN ('lies', 'odd') THEN UPDATE queue.jobs SET last_error = 'written' WHERE id = OLD.id; END IF; \
        IF NEW.kind = 'lies' THEN RETURN OLD; END IF; \
        IF NEW.kind = 'odd' THEN NEW.state := 'odd'; RETURN NEW; END IF; \
        IF NEW.kind = 'completes' THEN \
            UPDATE queue.jobs SET locked_at = NULL WHERE id = OLD.id; NEW.state := 'done'; RETURN NEW; \
        END IF; \
        IF ending = 'Retry' AND OLD.attempts < 3 THEN NEW.state := 'waiting'; \
        ELSIF ending = 'Cancel' THEN NEW.state := 'stopped'; ELSE NEW.state := 'failed'; END IF; \
        UPDATE queue.jobs SET locked_at = NULL, last_error = NEW.last_error, \
            failed_at = CASE NEW.state WHEN 'failed' THEN NEW.ended_at END, \
            stopped_at = CASE NEW.state WHEN 'stopped' THEN NEW.ended_at END \
        WHERE id = OLD.id AND locked_at = OLD.locked_at AND NOT claimed_again; \
        IF NOT FOUND THEN RETURN NULL; END IF; \
        RETURN NEW; \
    END $$; \
    CREATE TRIGGER end_job INSTEAD OF UPDATE ON queue.executions FOR EACH ROW EXECUTE FUNCTION queue.end_job();";

fn spec(more: &Value) -> Value {
    let mut spec = json!({
        "defaultTimeout": "1h",
        "table": {
            "schema": "queue", "name": "executions", "idUnique": true, "retry": {"method": "Trigger"},
            "columns": {"id": "id", "jobId": "kind", "jobType": "kind", "executionNumber": "", "status": "state",
                        "startedAt": "locked_at", "completedAt": "ended_at", "error": "last_error"},
            "statuses": {"scheduled": ["waiting"], "running": ["running"], "completed": ["done"], "failed": ["failed"],
                         "cancelled": ["stopped"]},
        },
    });
    for (name, value) in more.as_object().unwrap() {
        spec[name] = value.clone();
    }
    spec
}

async fn queue(test: &str) -> World {
    World::with(test, &format!("{QUEUE}{TRIGGER}"), &spec(&json!({}))).await
}

/// Inserts a job that is locked for two hours.
async fn locked(world: &World, id: i64, kind: &str, attempts: i32) {
    world
        .sql(&format!(
            "INSERT INTO queue.jobs (id, kind, locked_at, attempts) VALUES ({id}, '{kind}', now() - interval '2 hours', {attempts})"
        ))
        .await;
}

/// The jobs with their states.
async fn states(world: &World) -> String {
    world.one("SELECT string_agg(id || ' ' || state, ', ' ORDER BY id) FROM queue.executions").await
}

async fn policies(world: &World) {
    for (kind, action) in [("again", "Retry"), ("halts", "Cancel"), ("asks", "Cancel")] {
        world.policy(kind, json!({"selector": {"jobTypes": [kind]}, "onStale": action})).await;
    }
}

#[tokio::test]
async fn each_action_becomes_what_the_trigger_of_the_view_makes_of_it() {
    let world = queue("viewends").await;
    for (id, kind, attempts) in
        [(1, "plain", 1), (2, "again", 1), (3, "again", 3), (4, "halts", 1), (5, "again", 2)]
    {
        locked(&world, id, kind, attempts).await;
    }
    world.sql("UPDATE queue.jobs SET locked_at = now() WHERE id = 5").await;
    policies(&world).await;
    let operator = world.operator();
    world.store(spec(&json!({}))).await;
    world.until_true("SELECT count(*) = 1 FROM queue.jobs WHERE locked_at IS NOT NULL").await;
    assert_eq!(states(&world).await, "1 failed, 2 waiting, 3 failed, 4 stopped, 5 running");
    let recorded: String = world
        .one("SELECT string_agg(concat_ws(' ', execution_id, action, reason, source), ', ' ORDER BY execution_id) FROM jobexec.events")
        .await;
    assert_eq!(
        recorded,
        "1 Failed DeadlineExceeded ExecutionStore/jobs, 2 Retried DeadlineExceeded ExecutionStore/jobs, \
         3 Failed DeadlineExceeded ExecutionStore/jobs, 4 Cancelled DeadlineExceeded ExecutionStore/jobs"
    );
    let event = world.event_until(&operator, "jobs", "StaleExecutionsFailed").await;
    assert!(event.contains("2 (job again, #?, 2.0 h, retried)"), "{event}");
    let errors: String = world.one("SELECT last_error FROM queue.jobs WHERE id = 2").await;
    assert!(errors.starts_with("DeadlineExceeded: "), "{errors}");

    // The next attempt of the same row is judged by its own start.
    world
        .sql("UPDATE queue.jobs SET locked_at = now() - interval '90 minutes', attempts = 2 WHERE id = 2")
        .await;
    world
        .until_true("SELECT count(*) = 2 FROM jobexec.events WHERE execution_id = '2' AND action = 'Retried'")
        .await;
}

#[tokio::test]
async fn a_row_that_a_view_does_not_end_is_told_by_what_happened_to_it() {
    let world = queue("viewrefuses").await;
    for (id, kind) in [
        (1, "plain"),
        (2, "raises"),
        (3, "asks"),
        (4, "plain"),
        (5, "plain"),
        (6, "lies"),
        (7, "odd"),
        (8, "completes"),
    ] {
        locked(&world, id, kind, 1).await;
    }
    // A worker has claimed the job since, which the fence of the trigger finds.
    world.sql("UPDATE queue.jobs SET claimed_again = true WHERE id = 4").await;
    policies(&world).await;
    let mut worker = world.pool.begin().await.unwrap();
    sqlx::raw_sql("UPDATE queue.jobs SET attempts = 2 WHERE id = 5").execute(&mut *worker).await.unwrap();
    let operator = world.operator();
    world.store(spec(&json!({}))).await;
    let status = world
        .store_until(&operator, |s| is(&s.conditions, "EnforcementPaused", "True", "ExecutionsRefused"))
        .await;
    let text = message(&status.conditions, "EnforcementPaused");
    for told in [
        "2: refused: this job is not to be ended",
        "4: a trigger of the table leaves it unchanged",
        "6: a trigger of the table leaves it running, or writes a status that is not in the mapping",
        "7: a trigger of the table leaves it running, or writes a status that is not in the mapping",
    ] {
        assert!(text.contains(told.trim_start_matches("2: refused: ")), "{told} not in {text}");
    }
    assert!(!text.contains("3: "), "one whose worker is asked to stop is not refused: {text}");
    world.until_true("SELECT asked_at IS NOT NULL FROM queue.jobs WHERE id = 3").await;
    assert_eq!(
        states(&world).await,
        "1 failed, 2 running, 3 running, 4 running, 5 running, 6 running, 7 running, 8 waiting"
    );
    // What a trigger wrote to rows that it left running is undone.
    assert_eq!(world.one::<i64>("SELECT count(*) FROM queue.jobs WHERE last_error = 'written'").await, 0);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.events").await, 1);

    // A person's cancellation is a request too, and is kept.
    locked(&world, 9, "asks", 1).await;
    let file = world.file("store.yaml", &World::store_with("jobs", spec(&json!({}))).to_string());
    let cancelled = world.jobexec(&["cancel", "9", "-f", &file]);
    let told = String::from_utf8([cancelled.stdout, cancelled.stderr].concat()).unwrap();
    assert!(told.contains("asks its worker to stop"), "{told}");
    world
        .until_true("SELECT asked_at IS NOT NULL AND locked_at IS NOT NULL FROM queue.jobs WHERE id = 9")
        .await;

    worker.commit().await.unwrap();
    world.until_true("SELECT state = 'failed' FROM queue.executions WHERE id = 5").await;
}

#[tokio::test]
async fn a_view_that_cannot_be_written_is_observed_and_says_so() {
    let world = World::with("viewonly", QUEUE, &spec(&json!({}))).await;
    locked(&world, 1, "plain", 1).await;
    let operator = world.operator();
    world.store(spec(&json!({}))).await;
    // Postgres updates a view by itself, except columns that it computes.
    let computed = paused(&world, &operator, "RowsNotLockable").await;
    assert!(computed.contains("cannot update column"), "{computed}");
    world.sql("CREATE OR REPLACE VIEW queue.executions AS SELECT j.id, j.kind, j.locked_at, j.attempts, j.last_error, \
               j.failed_at AS ended_at, CASE WHEN j.locked_at IS NOT NULL THEN 'running' ELSE 'waiting' END AS state \
               FROM queue.jobs AS j CROSS JOIN (SELECT 1) AS one").await;
    let told = paused(&world, &operator, "ViewNotUpdatable").await;
    assert!(told.contains("INSTEAD OF UPDATE"), "{told}");
    world.sql(TRIGGER).await;
    world.until_true("SELECT state <> 'running' FROM queue.executions WHERE id = 1").await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;

    world.sql("ALTER VIEW queue.executions RENAME TO gone; ALTER VIEW queue.gone RENAME TO executions").await;
    locked(&world, 2, "plain", 1).await;
    world.until_true("SELECT state <> 'running' FROM queue.executions WHERE id = 2").await;
    world.sql("DROP TRIGGER end_job ON queue.executions").await;
    locked(&world, 3, "plain", 1).await;
    paused(&world, &operator, "ViewNotUpdatable").await;
    let counts = |s: &ExecutionStoreStatus| s.metrics.as_ref().is_some_and(|m| m.stale_executions == 1);
    world.store_until(&operator, counts).await;
    assert_eq!(world.one::<String>("SELECT state FROM queue.executions WHERE id = 3").await, "running");

    // An outer join cannot be locked, whatever the trigger does.
    world.sql("DROP VIEW queue.executions; \
               CREATE VIEW queue.executions AS SELECT j.id, j.kind, j.locked_at, j.attempts, j.last_error, j.failed_at AS ended_at, \
               CASE WHEN j.locked_at IS NOT NULL THEN 'running' ELSE 'waiting' END AS state \
               FROM queue.jobs AS j LEFT JOIN queue.jobs AS other ON other.id = j.id + 1000; \
               CREATE TRIGGER end_job INSTEAD OF UPDATE ON queue.executions FOR EACH ROW EXECUTE FUNCTION queue.end_job()").await;
    world.sql(&format!("GRANT SELECT, UPDATE ON queue.executions TO {}", world.role)).await;
    let told = paused(&world, &operator, "RowsNotLockable").await;
    assert!(told.contains("outer join"), "{told}");
}

/// Waits until enforcement is paused for this reason, and returns the message.
async fn paused(world: &World, operator: &crate::support::Operator, reason: &str) -> String {
    let status =
        world.store_until(operator, |s| is(&s.conditions, "EnforcementPaused", "True", reason)).await;
    message(&status.conditions, "EnforcementPaused").clone()
}

#[tokio::test]
async fn a_view_that_postgres_updates_by_itself_needs_no_trigger() {
    let tables = "CREATE TABLE runs (id bigint PRIMARY KEY, job_id bigint, execution_number integer, status text, \
                  started_at timestamptz, completed_at timestamptz, secret text); \
                  CREATE VIEW job_executions AS SELECT id, job_id, execution_number, status, started_at, completed_at FROM runs";
    let unique = json!({"table": {"idUnique": true}});
    let world = World::with("viewplain", tables, &unique).await;
    world.sql("INSERT INTO runs VALUES (1, 1, 1, 'running', now() - interval '2 days'), (2, 1, 2, 'running', now())").await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status =
        world.store_until(&operator, |s| is(&s.conditions, "SchemaValid", "False", "IdNotUnique")).await;
    assert!(message(&status.conditions, "SchemaValid").contains("spec.table.idUnique"));
    world.store(unique).await;
    world.until_true("SELECT status = 'failed' AND completed_at IS NOT NULL FROM runs WHERE id = 1").await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    assert_eq!(world.one::<String>("SELECT status FROM runs WHERE id = 2").await, "running");

    let file =
        world.file("view.yaml", &World::store_with("jobs", json!({"table": {"idUnique": true}})).to_string());
    let output = world.jobexec(&["schema", "--apply", "--with", "notify", "-f", &file]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && told.contains("which is a view or belongs to a job system"),
        "{told}"
    );
}

#[tokio::test]
async fn a_column_that_is_written_has_no_second_meaning() {
    let world = World::new("twice").await;
    for columns in [json!({"completedAt": "started_at"}), json!({"error": "status"}), json!({"status": "id"})]
    {
        let refused = world
            .apply::<jobexec_operator::api::ExecutionStore>(
                "jobs",
                World::store_with("jobs", json!({"table": {"columns": columns}})),
            )
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains("each needs a column of its own"), "{columns} {refused}");
    }
    // The status shows what only the database knows.
    world.sql("ALTER TABLE job_executions ADD beat timestamptz").await;
    let operator = world.operator();
    world.store(json!({"table": {"columns": {"completedAt": "beat", "heartbeatAt": "beat"}}})).await;
    let status =
        world.store_until(&operator, |s| is(&s.conditions, "SchemaValid", "False", "ColumnNamedTwice")).await;
    let told = message(&status.conditions, "SchemaValid");
    assert!(told.contains("spec.table.columns.completedAt and spec.table.columns.heartbeatAt"), "{told}");

    let one = json!({"singleActiveExecution": {}, "table": {"columns": {"executionNumber": ""}}});
    let refused = world
        .apply::<jobexec_operator::api::ExecutionStore>("other", World::store_with("other", one))
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("set table.columns.executionNumber"), "{refused}");
}

#[tokio::test]
async fn retry_without_a_trigger_that_retries_fails_and_says_so() {
    let world = World::new("noretry").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')").await;
    world.policy("all", json!({"onStale": "Retry"})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    let status = world
        .policy_until(&operator, "all", |s| is(&s.conditions, "Accepted", "False", "NotSupported"))
        .await;
    assert!(message(&status.conditions, "Accepted").contains("Set table.retry"), "{status:#?}");
}

#[tokio::test]
async fn ids_that_no_index_makes_unique_are_vouched_for() {
    let tables = "CREATE TABLE job_executions (id bigint NOT NULL, job_id bigint, execution_number integer, status text, \
                  started_at timestamptz NOT NULL, completed_at timestamptz, PRIMARY KEY (id, started_at)) PARTITION BY RANGE (started_at); \
                  CREATE TABLE old PARTITION OF job_executions FOR VALUES FROM (MINVALUE) TO ('2020-01-01'); \
                  CREATE TABLE new PARTITION OF job_executions FOR VALUES FROM ('2020-01-01') TO (MAXVALUE)";
    let vouched = json!({"table": {"idUnique": true}});
    let world = World::with("vouched", tables, &vouched).await;
    world
        .sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', '2019-06-01'), (2, 1, 2, 'running', now())")
        .await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| is(&s.conditions, "SchemaValid", "False", "IdNotUnique")).await;
    world.store(vouched).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    assert_eq!(world.status(2).await, "running");
}
