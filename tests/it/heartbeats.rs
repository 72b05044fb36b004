//! Lost heartbeats of many workers together: an outage does not prove death, and holds them only once.

use jobexec_operator::api::ExecutionStoreStatus;
use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::support::{Operator, World, is, message, rbac};

/// The default table with a column for heartbeats, one for the worker, and one for its Pod.
const TABLE: &str = "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint NOT NULL, \
     execution_number integer NOT NULL, status text NOT NULL, started_at timestamptz, completed_at timestamptz, \
     beat timestamptz, worker text, pod text)";

fn spec() -> Value {
    let columns = json!({"heartbeatAt": "beat", "worker": "worker"});
    json!({"table": {"columns": columns}, "heartbeatTimeout": "1h", "defaultTimeout": "99999h"})
}

/// Creates a table that an operator has watched for a day without a gap, while that operator is briefly gone.
async fn looked_at(test: &str, spec: &Value) -> World {
    watched(test, TABLE, spec).await
}

/// The same for other tables.
pub(crate) async fn watched(test: &str, tables: &str, spec: &Value) -> World {
    let world = World::with(test, tables, spec).await;
    let operator = world.operator();
    world.store(spec.clone()).await;
    world.store_until(&operator, |s| is(&s.conditions, "EvidenceAvailable", "True", "Available")).await;
    assert!(operator.stop().success());
    world.sql("UPDATE jobexec.stores SET watched_since = now() - interval '1 day', seen_at = now()").await;
    world
}

/// Inserts executions from `first` to `last`, each with a heartbeat from this long ago.
async fn beating(world: &World, first: i64, last: i64, ago: &str, worker: &str) {
    world
        .sql(&format!(
            "INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '3 hours', NULL, \
             now() - interval '{ago}', {worker} FROM generate_series({first}, {last}) AS n"
        ))
        .await;
}

async fn held(world: &World, operator: &Operator) -> ExecutionStoreStatus {
    world.store_until(operator, |s| is(&s.conditions, "EvidenceAvailable", "False", "HeartbeatsHeld")).await
}

async fn running(world: &World) -> i64 {
    world.one("SELECT count(*) FROM job_executions WHERE status = 'running'").await
}

#[tokio::test]
async fn workers_that_fall_silent_together_are_held_once_and_who_stays_away_is_failed() {
    let world = looked_at("cutoff", &spec()).await;
    beating(&world, 1, 20, "61 minutes", "'w' || n").await;
    beating(&world, 21, 21, "-1 hour", "'w21'").await;
    world.sql("UPDATE job_executions SET started_at = now() - interval '100001 hours' WHERE id = 21").await;
    let operator = world.operator();
    let told = held(&world, &operator).await;
    let text = message(&told.conditions, "EvidenceAvailable");
    assert!(text.contains("workers stopped together") && text.contains("deadlines"), "{text}");
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 21").await;
    world.request_sweep(&operator).await;
    assert_eq!(running(&world).await, 20);
    let since = "SELECT heartbeats_held[1] FROM jobexec.stores WHERE cardinality(heartbeats_held) = 1";
    let first: chrono::DateTime<chrono::Utc> = world.one(since).await;

    // A restart of the operator neither ends nor restarts the hold.
    operator.kill();
    let (operator, https) = world.serving(&[]).await;
    held(&world, &operator).await;
    world.request_sweep(&operator).await;
    assert_eq!(running(&world).await, 20);
    assert_eq!(world.one::<chrono::DateTime<chrono::Utc>>(since).await, first);
    // A clean-up cannot end them for it either.
    let admin = https.with(&world.token("jobexec-administrator").await);
    let (status, done) = admin.post_json("/api/system/cleanup/stale-executions", &json!({})).await;
    assert_eq!((status, &done["cleaned"]), (200, &json!(0)), "{done}");
    let file = world.file("store.yaml", &World::store_with("jobs", spec()).to_string());
    let cleaned = world.jobexec(&["cleanup", "--yes", "-f", &file]);
    assert!(cleaned.status.success(), "{}", String::from_utf8_lossy(&cleaned.stderr));
    assert_eq!(running(&world).await, 20);
    let listed = world.jobexec(&["list", "--stale", "-f", &file, "-o", "name"]);
    assert_eq!(String::from_utf8(listed.stdout).unwrap(), "");
    let explained = world.jobexec(&["explain", "1", "-f", &file]);
    let text = String::from_utf8(explained.stdout).unwrap();
    assert!(text.contains("held for one heartbeatTimeout") && text.contains("stopped together"), "{text}");

    // Half of them come back; the hold of the others has ended, and they are not held again.
    world.sql("UPDATE job_executions SET beat = now() + interval '1 hour' WHERE id <= 10").await;
    world.sql("UPDATE jobexec.stores SET heartbeats_held = ARRAY[now() - interval '1 hour']").await;
    world
        .until_true(
            "SELECT count(*) = 10 FROM job_executions WHERE status = 'failed' AND id BETWEEN 11 AND 20",
        )
        .await;
    world.request_sweep(&operator).await;
    assert_eq!(running(&world).await, 10);
    let reasons: String = world
        .one("SELECT string_agg(DISTINCT reason, ' ') FROM jobexec.events WHERE action = 'Failed'")
        .await;
    assert_eq!(reasons, "DeadlineExceeded HeartbeatLost");
    world.store_until(&operator, |s| is(&s.conditions, "EvidenceAvailable", "True", "Available")).await;
}

#[tokio::test]
async fn one_worker_that_dies_is_failed_at_once_however_many_executions_it_has() {
    let world = looked_at("onedead", &spec()).await;
    beating(&world, 1, 5, "61 minutes", "'the dead one'").await;
    beating(&world, 6, 20, "-1 hour", "'w' || n").await;
    let operator = world.operator();
    world.until_true("SELECT count(*) = 5 FROM job_executions WHERE status = 'failed' AND id <= 5").await;
    world.request_sweep(&operator).await;
    assert_eq!(running(&world).await, 15);
    let held: bool = world.one("SELECT heartbeats_held IS NOT NULL FROM jobexec.stores").await;
    assert!(!held);
}

#[tokio::test]
async fn one_worker_alone_is_held_where_the_server_was_started_again() {
    let world = looked_at("restarted", &spec()).await;
    world.sql("UPDATE jobexec.stores SET server_started_at = now() - interval '9 days'").await;
    beating(&world, 1, 1, "61 minutes", "'w'").await;
    let operator = world.operator();
    let told = held(&world, &operator).await;
    let text = message(&told.conditions, "EvidenceAvailable");
    assert!(text.contains("the current one started at"), "{text}");
    world.request_sweep(&operator).await;
    assert_eq!(running(&world).await, 1);
}

#[tokio::test]
async fn one_worker_alone_is_held_where_many_sessions_were_lost() {
    let world = looked_at("sessions", &spec()).await;
    beating(&world, 1, 1, "0 minutes", "'w'").await;
    let operator = world.operator();
    world.store_until(&operator, |s| is(&s.conditions, "EvidenceAvailable", "True", "Available")).await;
    let mut sessions = Vec::new();
    for _ in 0..12 {
        sessions.push(sqlx::PgConnection::connect(&world.superuser()).await.unwrap());
    }
    let mut pids = Vec::new();
    for session in &mut sessions {
        pids.push(sqlx::query_scalar::<_, i32>("SELECT pg_backend_pid()").fetch_one(session).await.unwrap());
    }
    // The operator observes the sessions once, and then that they are gone.
    world.request_sweep(&operator).await;
    sqlx::query("SELECT pg_terminate_backend(pid) FROM unnest($1) AS pid")
        .bind(&pids)
        .execute(&world.pool)
        .await
        .unwrap();
    world.until_true("SELECT heartbeats_why LIKE '%sessions were lost%' FROM jobexec.stores").await;
    // That is known after a restart. The heartbeat grows old while no operator runs.
    operator.kill();
    world.sql("UPDATE job_executions SET beat = now() - interval '61 minutes'").await;
    let operator = world.operator();
    held(&world, &operator).await;
    world.request_sweep(&operator).await;
    assert_eq!(running(&world).await, 1);
}

#[tokio::test]
async fn whose_workload_has_ended_is_not_held() {
    let mut spec = spec();
    spec["table"]["columns"]["workload"] = json!("pod");
    spec["workloads"] = json!({"gracePeriod": "2h"});
    let world = World::with("ended", TABLE, &spec).await;
    rbac::apply(&world.client, &world.namespace, rbac::WORKLOADS).await;
    let operator = world.operator();
    world.store(spec).await;
    world.store_until(&operator, |s| is(&s.conditions, "EvidenceAvailable", "True", "Available")).await;
    operator.kill();
    world.sql("UPDATE jobexec.stores SET watched_since = now() - interval '1 day', seen_at = now()").await;
    beating(&world, 1, 20, "61 minutes", "NULL").await;
    world.sql("UPDATE job_executions SET pod = 'Pod/gone-' || id WHERE id <= 2").await;
    let operator = world.operator();
    held(&world, &operator).await;
    world.until_true("SELECT count(*) = 2 FROM job_executions WHERE status = 'failed' AND id <= 2").await;
    world.request_sweep(&operator).await;
    assert_eq!(running(&world).await, 18);
}

#[tokio::test]
async fn without_the_operators_tables_no_lost_heartbeat_counts() {
    let spec = json!({
        "table": {"columns": {"heartbeatAt": "beat", "worker": "worker"}},
        "heartbeatTimeout": "1s", "defaultTimeout": "2h",
    });
    let world = World::bare("beatsunkept").await;
    world.sql(TABLE).await;
    world
        .sql(&format!("GRANT SELECT, UPDATE (status, completed_at) ON job_executions TO {}", world.role))
        .await;
    world.secret("db", json!({"uri": world.url("right/password")})).await;
    beating(&world, 1, 2, "50 minutes", "NULL").await;
    world.sql("UPDATE job_executions SET started_at = now() - interval '1 hour' WHERE id = 1").await;
    let operator = world.operator();
    world.store(spec.clone()).await;
    let status = world
        .store_until(&operator, |s| is(&s.conditions, "EvidenceAvailable", "False", "TablesMissing"))
        .await;
    let text = message(&status.conditions, "EvidenceAvailable");
    assert!(text.contains("lost heartbeats do not") && text.contains("jobexec schema --apply"), "{text}");
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
    // Its deadline comes after the heartbeat of the other one has been lost for longer than its timeout.
    let started = "now() - interval '2 hours' + interval '5 seconds'";
    world.sql(&format!("INSERT INTO job_executions VALUES (3, 3, 1, 'running', {started})")).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 3").await;
    world.request_sweep(&operator).await;
    assert_eq!(world.status(1).await, "running");
    let file = world.file("store.yaml", &World::store_with("jobs", spec).to_string());
    let told =
        |args: &[&str]| String::from_utf8(world.jobexec(&[args, &["-f", &file]].concat()).stdout).unwrap();
    assert_eq!(told(&["list", "--stale", "-o", "name"]), "");
    assert!(
        told(&["explain", "1"]).contains("that it is lost does not count"),
        "{}",
        told(&["explain", "1"])
    );
}
