//! Lost heartbeats: what counts as one, and the second chance after a time in which nobody could have seen them.

use serde_json::{Value, json};

use super::{ENDED, look, told};
use crate::support::{World, blocking, is};

/// The default table with a column for heartbeats.
const BEATS: &str = "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint NOT NULL, \
     execution_number integer NOT NULL, status text NOT NULL, started_at timestamptz, completed_at timestamptz, beat timestamptz)";

/// The spec of a store for [`BEATS`].
fn beats(heartbeat_timeout: &str) -> Value {
    json!({"table": {"columns": {"heartbeatAt": "beat"}}, "heartbeatTimeout": heartbeat_timeout})
}

/// Starts a row with a heartbeat, given as an SQL expression.
async fn beating(world: &World, id: i64, started: &str, beat: &str) {
    world
        .sql(&format!(
            "INSERT INTO job_executions VALUES ({id}, {id}, 1, 'running', now() - interval '{started}', NULL, {beat})"
        ))
        .await;
}

#[tokio::test]
async fn a_heartbeat_that_stays_away_fails_and_one_that_never_came_does_not() {
    let world = World::with("beats", BEATS, &beats("2s")).await;
    beating(&world, 1, "1 hour", "NULL").await;
    beating(&world, 2, "1 hour", "now() + interval '1 hour'").await;
    beating(&world, 3, "1 hour", "now() - interval '50 minutes'").await;
    beating(&world, 4, "2 days", "NULL").await;
    // If there are several reasons, the deadline counts.
    beating(&world, 5, "2 days", "now() - interval '1 day'").await;
    // A worker is just about to write its heartbeat.
    beating(&world, 6, "1 hour", "now() - interval '50 minutes'").await;
    let mut worker = world.pool.begin().await.unwrap();
    sqlx::raw_sql("UPDATE job_executions SET beat = now() + interval '1 hour' WHERE id = 6")
        .execute(&mut *worker)
        .await
        .unwrap();
    world.execution("lost", "3", json!({})).await;
    let operator = world.operator();
    world.store(beats("2s")).await;
    told(&world, &operator, "lost", "HeartbeatLost", "no heartbeat for too long").await;
    world
        .until_true(
            "SELECT EXISTS (SELECT FROM jobexec.events WHERE execution_id = '4' AND action = 'Failed')",
        )
        .await;
    assert_eq!(
        world.one::<String>(ENDED).await,
        "3 Failed HeartbeatLost, 4 Failed DeadlineExceeded, 5 Failed DeadlineExceeded"
    );
    let held: bool = world
        .one("SELECT e.at >= s.watched_since + interval '2 s' FROM jobexec.events e, jobexec.stores s WHERE execution_id = '3' AND action = 'Failed'")
        .await;
    assert!(held, "what was not watched is no evidence");
    world.until_true("SELECT bool_and(announced_at IS NOT NULL) FROM jobexec.sweeps").await;
    let notes: Vec<String> =
        world.events().await.into_iter().filter_map(|e| e.note).filter(|n| n.contains("3 (job 3")).collect();
    assert!(notes.iter().any(|note| note.contains("HeartbeatLost")), "{notes:?}");

    worker.commit().await.unwrap();
    look(&world, &operator).await;
    for id in [1, 2, 6] {
        assert_eq!(world.status(id).await, "running", "{id}");
    }
    world.sql("UPDATE job_executions SET beat = now() - interval '1 minute' WHERE id = 6").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 6").await;
}

#[tokio::test]
async fn a_heartbeat_from_before_the_start_is_not_this_runs() {
    let world = World::new("oldbeat").await;
    // A column with a default: it contains the time at which the row was scheduled.
    world
        .sql("ALTER TABLE job_executions ADD beat timestamptz NOT NULL DEFAULT now() - interval '3 hours'")
        .await;
    let spec = beats("1h");
    world.prepare_for(&spec).await;
    world
        .sql(
            "INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 minutes'), \
             (2, 2, 1, 'running', now() - interval '2 hours'), (3, 3, 1, 'running', now() - interval '4 hours'), \
             (4, 4, 1, 'running', 'infinity'), (5, 5, 1, 'running', '294276-12-31')",
        )
        .await;
    let operator = world.operator();
    world.store(spec).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    operator.kill();
    world.sql("UPDATE jobexec.stores SET watched_since = now() - interval '1 day', seen_at = now()").await;
    let operator = world.operator();
    world.until_true("SELECT count(*) = 2 FROM job_executions WHERE status = 'failed'").await;
    look(&world, &operator).await;
    assert_eq!(world.one::<String>(ENDED).await, "2 Failed HeartbeatLost, 3 Failed HeartbeatLost");
    let file = world.file("store.yaml", &World::store_with("jobs", beats("1h")).to_string());
    let explained = world.jobexec(&["explain", "1", "-f", &file]);
    let text = String::from_utf8(explained.stdout).unwrap();
    assert!(text.contains("before it began"), "{text}");
}

#[tokio::test]
async fn after_a_time_without_an_operator_heartbeats_get_another_chance_and_deadlines_do_not() {
    let world = World::with("absent", BEATS, &beats("1h")).await;
    let operator = world.operator();
    world.store(beats("1h")).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    operator.kill();
    // Watched for a day without a gap: a heartbeat from two hours ago is lost at once.
    world.sql("UPDATE jobexec.stores SET watched_since = now() - interval '1 day', seen_at = now()").await;
    beating(&world, 1, "3 hours", "now() - interval '2 hours'").await;
    let operator = world.operator();
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    operator.kill();
    world.sql("UPDATE jobexec.stores SET watched_since = now() - interval '1 day', seen_at = now() - interval '1 hour'").await;
    beating(&world, 2, "3 hours", "now() - interval '2 hours'").await;
    beating(&world, 3, "2 days", "now() - interval '2 hours'").await;
    let operator = world.operator();
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 3").await;
    look(&world, &operator).await;
    assert_eq!(world.status(2).await, "running");
    assert_eq!(world.one::<String>(ENDED).await, "1 Failed HeartbeatLost, 3 Failed DeadlineExceeded");
}

#[tokio::test]
async fn after_an_outage_of_the_database_heartbeats_get_another_chance() {
    let mut server = blocking(|| devcluster::Server::start(&[])).await;
    let world = World::on_server("dbaway", &server).await;
    world.sql("ALTER TABLE job_executions ADD beat timestamptz").await;
    world.prepare_for(&beats("1h")).await;
    let operator = world.operator();
    world.store(beats("1h")).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    world.sql("UPDATE jobexec.stores SET watched_since = now() - interval '1 day'").await;
    server = blocking(move || {
        server.kill();
        Ok::<_, std::convert::Infallible>(server)
    })
    .await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "False", "ConnectionFailed")).await;
    let _server = blocking(move || server.restart().map(|()| server)).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    let since: bool = world.one("SELECT watched_since > now() - interval '1 hour' FROM jobexec.stores").await;
    assert!(since, "it counts from the end of the outage");
    // The state after an outage during which no worker could write.
    beating(&world, 1, "3 hours", "now() - interval '2 hours'").await;
    beating(&world, 2, "2 days", "now() - interval '2 hours'").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
    look(&world, &operator).await;
    assert_eq!(world.status(1).await, "running");
}
