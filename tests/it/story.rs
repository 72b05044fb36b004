//! The case that started this project, end to end.

use serde_json::json;

use crate::support::world::CASE;
use crate::support::{World, is};

/// The complete content of the other rows, including their versions.
const OTHERS: &str = "SELECT string_agg(t::text || t.xmin::text || t.ctid::text, '|' ORDER BY id) FROM job_executions t WHERE id <> 39";

/// The conditions of the store after the sweep: type, status, reason.
const CONDITIONS: [(&str, &str, &str); 6] = [
    ("DatabaseReachable", "True", "Connected"),
    ("SchemaValid", "True", "Valid"),
    ("Healthy", "True", "WithinLimits"),
    ("EnforcementPaused", "False", "Enforcing"),
    ("AuditAvailable", "True", "TablesPresent"),
    ("Consistent", "True", "NoViolations"),
];

/// What the log line of the execution contains.
const LOGGED: [&str; 6] = [
    "\"execution\":\"39\"",
    "\"job\":\"21\"",
    "\"number\":5",
    "\"reason\":\"DeadlineExceeded\"",
    "runtime_seconds",
    "deadline",
];

#[tokio::test]
async fn a_stale_execution_is_failed_and_shown() {
    let world = World::bare("story").await;
    world.sql(CASE).await;
    world.prepare().await;
    let others: String = world.one(OTHERS).await;
    let before = world.one::<chrono::NaiveDateTime>("SELECT now() AT TIME ZONE 'utc'").await;
    let operator = world.operator();
    world.execution("the-case", "39", json!({})).await;
    world.store(json!({})).await;

    // The counts may come a moment later.
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "Ready", "True", "Enforcing")
                && s.metrics.as_ref().is_some_and(|m| m.running_executions == 1)
        })
        .await;

    assert_eq!(world.status(39).await, "failed");
    let completed: chrono::NaiveDateTime =
        world.one("SELECT completed_at FROM job_executions WHERE id = 39").await;
    assert!(completed > before, "{completed} is the time of the sweep, not before {before}");
    assert_eq!(world.one::<String>(OTHERS).await, others, "the other rows are untouched, byte for byte");

    let metrics = status.metrics.unwrap();
    assert_eq!(
        (metrics.running_executions, metrics.stale_executions, metrics.recent_executions_24h),
        (1, 0, 1)
    );
    let sweep = status.last_sweep.unwrap();
    assert_eq!((sweep.trigger.as_str(), sweep.failed, sweep.remaining), ("Startup", 1, 0));
    for (type_, truth, reason) in CONDITIONS {
        assert!(is(&status.conditions, type_, truth, reason), "{type_}: {:#?}", status.conditions);
    }

    let event = world.event_until(&operator, "jobs", "StaleExecutionsFailed").await;
    assert!(event.starts_with("failed 1 stale execution: 39 (job 21, #5, "), "{event}");
    let recorded: String = world
        .one("SELECT string_agg(concat_ws(' ', execution_id, job_id, execution_number, action, reason, source), ',') FROM jobexec.events")
        .await;
    assert_eq!(recorded, "39 21 5 Failed DeadlineExceeded ExecutionStore/jobs");

    let row = world
        .execution_until(&operator, "the-case", |s| is(&s.conditions, "Finished", "True", "Failed"))
        .await;
    assert!(is(&row.conditions, "Succeeded", "False", "DeadlineExceeded"), "{:#?}", row.conditions);
    assert_eq!(row.reason.as_deref(), Some("DeadlineExceeded"));
    assert_eq!((row.job_id.as_deref(), row.execution_number), (Some("21"), Some(5)));

    let event = world.event_until(&operator, "the-case", "DeadlineExceeded").await;
    assert!(event.contains("past its deadline 2025-08-08T18:18:08Z"), "{event}");

    let log = operator.log();
    let line = log.lines().find(|l| l.contains("failed a stale execution")).expect("a log line a row");
    for part in LOGGED {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(log.lines().any(|l| l.contains("\"message\":\"swept\"") && l.contains("\"running\":1")), "{log}");
    assert!(operator.stop().success(), "SIGTERM ends it with status 0");
}
