//! The example of docs/recovery.md: workers in Python and Go that are killed in the middle of their work.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::{World, is};

const PAGE: &str = include_str!("../../../docs/recovery.md");
const PYTHON: &str = include_str!("../../../docs/examples/checkpoints/worker.py");
const GO: &str = include_str!("../../../docs/examples/checkpoints/worker.go");

/// The block of the page in this language that begins so.
fn block(language: &str, begin: &str) -> &'static str {
    let start = format!("```{language}\n");
    let mut blocks = PAGE.split(&start).skip(1).map(|rest| rest.split("\n```").next().unwrap());
    blocks.find(|block| block.contains(begin)).unwrap()
}

/// The store of the example, with this method, checked every second.
fn store(method: &str) -> Value {
    let yaml = block("yaml", "checkpointAt");
    let mut spec = serde_saphyr::from_str::<Value>(yaml).unwrap()["spec"].take();
    spec.as_object_mut().unwrap().remove("connection");
    spec["pollInterval"] = json!("1s");
    spec["table"]["retry"]["method"] = json!(method);
    spec
}

/// Kills the worker at 60 of 100 items, and returns the executions, and the items of each, after the retry.
async fn killed_at_sixty(
    test: &str,
    system: &'static str,
    method: &str,
) -> Option<(Vec<String>, Vec<String>)> {
    let mut client = Client::of(test, system).await?;
    let spec = store(method);
    let world = World::with(test, block("sql", "CREATE TABLE"), &spec).await;
    client.set("DATABASE_URL", &world.superuser().replace("sslmode=require", "sslmode=disable"));
    world.policy("again", json!({"onStale": "Retry", "retry": {"backoff": {"initial": "0s"}}})).await;
    world.store(spec).await;
    let operator = world.operator();
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    assert!(operator.stop().success());

    world
        .sql(
            "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS \
                 'BEGIN PERFORM pg_catalog.pg_advisory_xact_lock(61); RETURN NEW; END'; \
             CREATE TRIGGER waits BEFORE INSERT ON done FOR EACH ROW WHEN (NEW.item = 61) EXECUTE FUNCTION waits(); \
             INSERT INTO job_executions (job_id, execution_number) VALUES (1, 1)",
        )
        .await;
    let mut holder = world.pool.acquire().await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(61)").execute(&mut *holder).await.unwrap();
    let worker = client.work(&[]);
    world
        .until_true(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 61 AND NOT granted \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
        )
        .await;
    worker.kill();
    sqlx::query("SELECT pg_advisory_unlock(61)").execute(&mut *holder).await.unwrap();

    // An hour passes.
    world
        .sql(
            "UPDATE job_executions SET started_at = started_at - interval '1 hour', checkpoint_at = checkpoint_at - interval '1 hour'; \
             UPDATE jobexec.stores SET watched_since = now() - interval '1 day', seen_at = now()",
        )
        .await;
    assert_eq!(world.one::<i64>("SELECT count(*) FROM done").await, 60);
    let _operator = world.operator();
    world.until_true("SELECT EXISTS (SELECT FROM job_executions WHERE status = 'scheduled')").await;
    client.run(&[]);
    let executions = world
        .one("SELECT array_agg(concat_ws(' ', id, status, checkpoint) ORDER BY id) FROM job_executions")
        .await;
    let items = world
        .one(
            "SELECT array_agg(concat_ws(' ', execution, items, different) ORDER BY execution) FROM ( \
             SELECT execution, count(*) AS items, count(DISTINCT item) AS different FROM done GROUP BY execution) AS d",
        )
        .await;
    let different: i64 = world.one("SELECT count(DISTINCT item) FROM done").await;
    assert_eq!(different, 100);
    Some((executions, items))
}

#[tokio::test]
async fn a_worker_in_python_that_was_killed_goes_on_in_a_new_row() {
    let Some((executions, items)) =
        killed_at_sixty("retrypython", "checkpoints/python", "NewExecution").await
    else {
        return;
    };
    assert_eq!(executions, ["1 failed 60", "2 completed 100"]);
    assert_eq!(items, ["1 60 60", "2 40 40"]);
}

#[tokio::test]
async fn a_worker_in_go_that_was_killed_goes_on_in_its_row() {
    let Some((executions, items)) = killed_at_sixty("retrygo", "checkpoints/go", "InPlace").await else {
        return;
    };
    assert_eq!(executions, ["1 completed 100"]);
    assert_eq!(items, ["1 100 100"]);
}

#[test]
fn the_page_has_the_workers_as_they_are_run() {
    assert_eq!(block("python", "psycopg"), PYTHON.trim_end());
    assert_eq!(block("go", "pgx"), GO.trim_end());
}
