//! The case that started this project, replayed: it is 2025-08-08 16:21:55 UTC, and execution 39 runs.

use serde_json::json;

use super::{jobexec, on_table, values};
use crate::support::World;
use crate::support::world::CASE;

/// The rows of the case, shifted so that the current time of the database is the time of the case.
async fn replayed(test: &str, spec: serde_json::Value) -> World {
    let world = World::bare(test).await;
    world.sql(CASE).await;
    world
        .sql(
            "DELETE FROM job_executions WHERE id = 40; \
             UPDATE job_executions SET started_at = started_at + moved, completed_at = completed_at + moved \
             FROM (SELECT now() AT TIME ZONE 'UTC' - timestamp '2025-08-08 16:21:55' AS moved) AS m",
        )
        .await;
    world.prepare_for(&spec).await;
    world
}

#[tokio::test]
async fn without_jobs() {
    let world = replayed("case", json!({})).await;
    let listed = jobexec(&world, &["list"]).lines(0);
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert_eq!(listed[0], "ID JOB # RUNTIME DEADLINE POLICY REASON");
    assert!(listed[1].starts_with("39 21 5 22.1 h "), "{listed:?}");
    assert!(listed[1].ends_with(" ExecutionStore/default LongRunning"), "{listed:?}");

    let explained = jobexec(&world, &["explain", "39"]);
    let told = explained.ended(0);
    assert!(told.contains("It is not stale. If nothing changes, it is failed at"), "{told}");
    assert!(told.contains(", in 1h5"), "{told}");

    let before: String =
        world.one("SELECT string_agg(t::text, ',' ORDER BY id) FROM job_executions AS t").await;
    let dry = jobexec(&world, &["cleanup", "--max-hours", "1", "--dry-run"]).lines(0);
    assert_eq!(dry[1], "39 21 5 22.1 h would be failed ManualCleanup CommandLine");
    assert_eq!(dry[2], "Dry run, nothing was changed: would clean up 1 stale execution");
    assert_eq!(dry.len(), 3, "{dry:?}");
    let after: String =
        world.one("SELECT string_agg(t::text, ',' ORDER BY id) FROM job_executions AS t").await;
    assert_eq!(before, after);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.events").await, 0);

    let from: chrono::DateTime<chrono::Utc> = world.one("SELECT clock_timestamp()").await;
    let done = on_table(&world, &["cleanup", "--max-hours", "1", "--yes"]).lines(0);
    assert_eq!(done[1], "39 21 5 22.1 h failed ManualCleanup CommandLine");
    assert_eq!(done[2], "Successfully cleaned up 1 stale execution");
    let ended: chrono::DateTime<chrono::Utc> = world
        .one("SELECT completed_at AT TIME ZONE 'UTC' FROM job_executions WHERE id = 39 AND status = 'failed'")
        .await;
    let to: chrono::DateTime<chrono::Utc> = world.one("SELECT clock_timestamp()").await;
    assert!(from <= ended && ended <= to, "{from} {ended} {to}");

    let health = jobexec(&world, &["health", "-o", "json"]).json(0);
    assert_eq!(health["status"], "healthy");
    for (figure, is) in [
        ("running_executions", 0),
        ("scheduled_executions", 0),
        ("long_running_executions", 0),
        ("stale_executions", 0),
        ("recent_executions_24h", 4),
    ] {
        assert_eq!(health["metrics"][figure], is, "{health}");
    }
    let history = jobexec(&world, &["history", "--since", "24h", "-o", "json"]).json(0);
    assert_eq!(values(&history, "execution_id"), ["39"]);
    let entry = &history[0];
    assert_eq!(
        (&entry["action"], &entry["reason"], &entry["source"]),
        (&json!("Failed"), &json!("ManualCleanup"), &json!("CommandLine"))
    );
    assert!(entry["actor"].as_str().unwrap().contains('@'), "{entry}");
}

#[tokio::test]
async fn with_jobs() {
    let spec = json!({"jobs": {}});
    let world = replayed("case-jobs", spec.clone()).await;
    let file = world.file("store.yaml", &World::store_with("jobs", spec).to_string());
    let explained = jobexec(&world, &["explain", "39", "-f", &file]);
    let told = explained.ended(0);
    assert!(told.contains("JobFinished      its job is finished"), "{told}");
    assert!(told.contains("jobexec cleanup --reason JobFinished"), "{told}");

    // No operator has read the table yet, and the administrator knows which execution is dead.
    let listed = jobexec(&world, &["list", "-f", &file]).lines(0);
    assert!(
        listed[1].starts_with("39 21 5 22.1 h ") && listed[1].ends_with("Suspected:JobFinished"),
        "{listed:?}"
    );
    let dry = jobexec(&world, &["cleanup", "--reason", "JobFinished", "--dry-run", "-f", &file]).lines(0);
    assert_eq!(dry[1], "39 21 5 22.1 h would be failed JobFinished CommandLine");
    let done = jobexec(&world, &["cleanup", "--reason", "jobfinished", "--yes", "-f", &file]).lines(0);
    assert_eq!(done[1], "39 21 5 22.1 h failed JobFinished CommandLine");
    assert_eq!(world.status(39).await, "failed");
    let unknown = jobexec(&world, &["cleanup", "--reason", "Overdue", "--dry-run", "-f", &file]);
    unknown.ended(2);
    assert!(unknown.err.contains("JobFinished"), "{}", unknown.err);
    let unmapped = jobexec(&world, &["cleanup", "--reason", "JobFinished", "--dry-run"]);
    unmapped.ended(1);
    assert!(unmapped.err.contains("spec.jobs"), "{}", unmapped.err);
}
