//! Rows that get a successor.

use serde_json::json;

use super::{RUNS, retries, runs};
use crate::support::{World, is};

const STALE: &str = "INSERT INTO job_executions (job_id, execution_number, status, started_at, payload, note) VALUES \
     (21, 1, 'completed', now() - interval '9 days', '{\"n\": 0}', 'x'), (21, 5, 'running', now() - interval '30 hours', '{\"n\": 1}', 'x'), \
     (21, 7, 'running', now() - interval '31 hours', '{\"n\": 2}', 'x'), (22, NULL, 'running', now() - interval '32 hours', '{\"n\": 3}', 'x'), \
     (23, 1, 'running', now(), '{}', 'x')";

fn policy() -> serde_json::Value {
    let retry = json!({"maxAttempts": 2, "after": "0s", "onReasons": ["DeadlineExceeded"],
        "backoff": {"initial": "1h", "jitterPercent": 0}});
    json!({"onStale": "Retry", "retry": retry})
}

#[tokio::test]
async fn a_new_row_has_the_next_number_and_what_is_copied() {
    let spec = runs(&json!({}));
    let world = World::with("retryruns", RUNS, &spec).await;
    world.sql(STALE).await;
    world.policy("all", policy()).await;
    world.store(spec).await;
    let operator = world.operator();
    world.until_true("SELECT count(*) = 3 FROM jobexec.retries WHERE outcome = 'Retried'").await;
    let rows: Vec<String> = world
        .one(
            "SELECT array_agg(concat_ws(' ', id, job_id, execution_number, status, payload, note, 'of', retry_of, attempt, \
             run_at BETWEEN now() + interval '59 minutes' AND now() + interval '1 hour') ORDER BY id) FROM job_executions WHERE id > 1",
        )
        .await;
    let expected = [
        r#"2 21 5 failed {"n": 1} x of"#,
        r#"3 21 7 failed {"n": 2} x of"#,
        r#"4 22 failed {"n": 3} x of"#,
        "5 23 1 running {} x of",
    ];
    assert_eq!(rows[..4], expected);
    let mut new: Vec<&str> = rows[4..].iter().map(|row| row.split_once(' ').unwrap().1).collect();
    new.sort_unstable();
    let expected = [
        r#"21 8 scheduled {"n": 1} of 2 2 t"#,
        r#"21 9 scheduled {"n": 2} of 3 2 t"#,
        r#"22 1 scheduled {"n": 3} of 4 2 t"#,
    ];
    // Which of the two of job 21 comes first is open.
    let swapped = [
        r#"21 8 scheduled {"n": 2} of 3 2 t"#,
        r#"21 9 scheduled {"n": 1} of 2 2 t"#,
        r#"22 1 scheduled {"n": 3} of 4 2 t"#,
    ];
    assert!(new == expected || new == swapped, "{new:?}");
    let of_one: Vec<String> = world
        .one("SELECT array_agg(concat_ws(' | ', action, reason, regexp_replace(note, '[0-9]{4}-.*', 'T')) ORDER BY event_id) FROM jobexec.events WHERE execution_id = '4'")
        .await;
    let next: String = world.one("SELECT next_id FROM jobexec.retries WHERE execution_id = '4'").await;
    assert_eq!(
        of_one,
        [format!("Failed | DeadlineExceeded | attempt 2 is execution {next}, and may start at T")]
    );

    // The chain is counted, also where its rows do not say so.
    world
        .sql("UPDATE job_executions SET status = 'running', started_at = now() - interval '30 hours', attempt = NULL, retry_of = NULL WHERE status = 'scheduled'")
        .await;
    world.until_true("SELECT count(*) = 3 FROM jobexec.events WHERE reason = 'RetriesExhausted'").await;
    assert_eq!(world.one::<i64>("SELECT count(*) FROM job_executions").await, 8);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.retries").await, 3);
    world.store_until(&operator, |s| is(&s.conditions, "RetriesAvailable", "True", "Retrying")).await;
    assert!(operator.stop().success());
}

#[tokio::test]
async fn without_a_schedule_the_operator_keeps_the_retry_until_it_is_due() {
    let spec = runs(&json!({"table": {"columns": {"scheduledAt": null, "retryOf": null, "attempt": null}}}));
    let world = World::with("retrykept", RUNS, &spec).await;
    world.sql(STALE).await;
    world.policy("all", policy()).await;
    world.store(spec).await;
    let operator = world.operator();
    world.until_true("SELECT count(*) = 3 FROM jobexec.retries").await;
    world.store_until(&operator, |s| is(&s.conditions, "RetriesAvailable", "True", "Retrying")).await;
    assert_eq!(retries(&world).await, ["2 1 due", "3 1 due", "4 1 due"]);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM job_executions WHERE status = 'scheduled'").await, 0);
    // A worker finished one of them after all, and another one is gone.
    world.sql("UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 2; DELETE FROM job_executions WHERE id = 3").await;
    world.until_true("SELECT count(*) = 2 FROM jobexec.retries WHERE outcome = 'Dropped'").await;
    world.sql("UPDATE jobexec.retries SET due_at = now() WHERE decided_at IS NULL").await;
    world.until_true("SELECT count(*) = 1 FROM jobexec.retries WHERE outcome = 'Retried'").await;
    let new: String = world
        .one("SELECT concat_ws(' ', job_id, execution_number, payload) FROM job_executions WHERE status = 'scheduled'")
        .await;
    assert_eq!(new, r#"22 1 {"n": 3}"#);
    assert!(operator.stop().success());
}
