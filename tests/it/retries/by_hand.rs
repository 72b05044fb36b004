//! Retries that a person asks for.

use std::process::Command;

use serde_json::json;

use super::{QUEUE, RUNS, queue, retries, runs};
use crate::support::{World, is};

/// Three executions that are past their deadline, one that is completed, and one that runs.
const EXECUTIONS: &str = "INSERT INTO job_executions (job_id, execution_number, status, started_at, payload) \
     SELECT n, 1, CASE WHEN n = 4 THEN 'completed' ELSE 'running' END, \
            now() - CASE WHEN n = 5 THEN interval '1 hour' ELSE interval '30 hours' END, '{}' \
     FROM generate_series(1, 5) AS n";

/// Runs `jobexec` against the database of the world. Returns its exit status and its lines, each with single spaces.
fn jobexec(world: &World, args: &[&str]) -> (Option<i32>, Vec<String>) {
    let output = Command::new(env!("CARGO_BIN_EXE_jobexec"))
        .args(args)
        .env("DATABASE_URL", world.url("right/password"))
        .env("TZ", "UTC")
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    (output.status.code(), text.lines().map(words).collect())
}

#[tokio::test]
async fn a_person_has_failed_executions_run_again() {
    let spec = runs(&json!({}));
    let world = World::with("retrybyhand", RUNS, &spec).await;
    world.sql(EXECUTIONS).await;
    let (operator, https) = world.serving(&[]).await;
    world.store(spec).await;
    world.until_true("SELECT count(*) = 3 FROM job_executions WHERE status = 'failed'").await;

    let (code, lines) = jobexec(&world, &["retry", "1", "4", "5", "99", "--dry-run"]);
    assert_eq!(code, Some(1), "{lines:?}");
    let told = |part: &str| lines.iter().any(|line| line.contains(part));
    for part in [
        "once its worker is gone would be retried",
        "4 4 1 - - - - skipped: NotFailed: its status is completed, and only a failed execution is retried",
        "skipped: NotFailed: its status is running, and only a failed execution is retried",
        "99 - - - - - - skipped: NotFound: the table has no such execution",
    ] {
        assert!(told(part), "{part}: {lines:#?}");
    }
    assert!(retries(&world).await.is_empty());

    // Nobody can know whether its worker lives.
    let (code, lines) = jobexec(&world, &["retry", "1"]);
    assert_eq!(code, Some(0), "{lines:?}");
    assert_eq!(retries(&world).await, ["1 1 waits"]);
    let (_, explained) = jobexec(&world, &["explain", "1"]);
    let waits = "It has ended. Attempt 2 waits until the worker of this one is known to be gone: `jobexec retry 1 --now` starts it at once.";
    assert!(explained.iter().any(|line| line == waits), "{explained:#?}");
    let requested: String = world
        .one("SELECT concat_ws(' | ', action, reason, source, note) FROM jobexec.events WHERE action = 'RetryRequested'")
        .await;
    assert_eq!(
        requested,
        "RetryRequested | DeadlineExceeded | CommandLine | attempt 2 waits until the worker of this one is gone"
    );

    // Somebody knows that it does not.
    let path =
        |id: i64| format!("/api/system/executions/{}/retry?now=true", world.named(&format!("jobs/{id}")));
    let reader = https.with(&world.token("jobexec-reader").await);
    let (status, refused) = reader.post(&path(1)).await;
    assert_eq!((status, &refused["reason"]), (403, &json!("Forbidden")), "{refused}");
    let admin = https.with(&world.token("jobexec-administrator").await);
    let in_the_query = path(1);
    let (status, refused) =
        admin.post_json(in_the_query.trim_end_matches("?now=true"), &json!({"dry_run": true})).await;
    assert_eq!((status, &refused["reason"]), (400, &json!("InvalidBody")), "{refused}");
    let (status, done) = admin.post(&path(1)).await;
    assert_eq!((status, &done["attempt"], &done["waits"]), (200, &json!(2), &json!(false)), "{done}");
    world
        .until_true("SELECT count(*) = 1 FROM job_executions WHERE retry_of = 1 AND status = 'scheduled'")
        .await;
    let (status, again) = admin.post(&path(1)).await;
    assert_eq!((status, &again["reason"]), (409, &json!("NotRetried")), "{again}");
    assert!(
        again["detail"].as_str().unwrap().contains("it was retried: execution 6 is attempt 2"),
        "{again}"
    );
    for (id, code, reason) in [(4, 409, "NotRetried"), (99, 404, "ExecutionNotFound")] {
        let (status, refused) = admin.post(&path(id)).await;
        assert_eq!((status, &refused["reason"]), (code, &json!(reason)), "{refused}");
    }
    let (_, explained) = jobexec(&world, &["explain", "1"]);
    let retried = "It has ended and was retried: execution 6 is attempt 2.";
    assert!(explained.iter().any(|line| line == retried), "{explained:#?}");
    assert!(operator.stop().success());
}

#[tokio::test]
async fn what_an_outage_has_ended_runs_again_spread_over_time() {
    let spec = runs(&json!({}));
    let world = World::with("retryoutage", RUNS, &spec).await;
    world.sql(EXECUTIONS).await;
    let operator = world.operator();
    world.store(spec).await;
    world.until_true("SELECT count(*) = 3 FROM job_executions WHERE status = 'failed'").await;
    assert_eq!(jobexec(&world, &["retry", "1", "--now"]).0, Some(0));
    world.until_true("SELECT count(*) = 1 FROM jobexec.retries WHERE outcome = 'Retried'").await;
    // The others; the first of them starts at once.
    let outage = ["retry", "--reason", "DeadlineExceeded", "--since", "1h", "--now", "--over", "1h"];
    let (code, lines) = jobexec(&world, &outage);
    assert_eq!((code, lines[0].contains("--dry-run")), (Some(2), true), "{lines:?}");
    let (code, lines) = jobexec(&world, &[outage.as_slice(), &["--job-type", "mail", "--yes"]].concat());
    assert_eq!(code, Some(1), "{lines:?}");
    assert_eq!(lines, ["jobexec: the mapping of the table has no job types"]);
    let (code, lines) = jobexec(&world, &[outage.as_slice(), &["--yes", "-o", "name"]].concat());
    assert_eq!((code, lines), (Some(0), vec!["2".to_owned(), "3".to_owned()]));
    world.until_true("SELECT count(*) = 3 FROM job_executions WHERE status = 'scheduled'").await;
    assert_eq!(retries(&world).await, ["1 1 Retried", "2 1 Retried", "3 1 Retried"]);
    let spread: bool = world
        .one("SELECT max(run_at) - min(run_at) >= interval '29 minutes' FROM job_executions WHERE retry_of IN (2, 3)")
        .await;
    assert!(spread);
    assert!(operator.stop().success());
}

/// `kubectl wait --for=condition=Finished` and `Succeeded` wait for the last attempt.
#[tokio::test]
async fn an_object_is_not_finished_while_its_row_runs_again() {
    let spec = queue(&json!({}));
    let world = World::with("retryobject", QUEUE, &spec).await;
    world
        .sql("INSERT INTO job_executions (id, job_id, status, started_at, attempts) VALUES (1, 1, 'running', now() - interval '30 hours', 0)")
        .await;
    world.execution("own", "1", json!({})).await;
    world.store(spec).await;
    let operator = world.operator();
    let failed =
        world.execution_until(&operator, "own", |s| is(&s.conditions, "Finished", "True", "Failed")).await;
    assert!(is(&failed.conditions, "Succeeded", "False", "DeadlineExceeded"));
    assert_eq!(jobexec(&world, &["retry", "1", "--now"]).0, Some(0));
    let again = world
        .execution_until(&operator, "own", |s| is(&s.conditions, "Finished", "False", "Scheduled"))
        .await;
    assert!(is(&again.conditions, "Succeeded", "Unknown", "Scheduled"));
    world
        .sql("UPDATE job_executions SET status = 'completed', started_at = now(), completed_at = now() WHERE id = 1")
        .await;
    let done =
        world.execution_until(&operator, "own", |s| is(&s.conditions, "Finished", "True", "Completed")).await;
    assert!(is(&done.conditions, "Succeeded", "True", "Completed"));
    // The queue uses the row once more, and counts from the beginning.
    world
        .sql("UPDATE job_executions SET status = 'failed', attempts = 0, started_at = now(), completed_at = now() WHERE id = 1")
        .await;
    assert_eq!(jobexec(&world, &["retry", "1", "--now"]).0, Some(0));
    world.until_true("SELECT status = 'scheduled' FROM job_executions WHERE id = 1").await;
    assert_eq!(retries(&world).await, ["1 1 Retried", "1 2 Retried"]);
    assert!(operator.stop().success());
}

#[tokio::test]
async fn what_cannot_be_retried_by_hand_is_told() {
    let world = World::new("retrynothing").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'failed', now(), now())").await;
    let (operator, https) = world.serving(&[]).await;
    world.store(json!({})).await;
    world.store_until(&operator, |status| status.metrics.is_some()).await;
    let why =
        "the table does not say how an execution runs again: set spec.table.retry of the ExecutionStore";
    let (code, lines) = jobexec(&world, &["retry", "1"]);
    assert_eq!((code, lines), (Some(1), vec![format!("jobexec: {why}")]));
    let admin = https.with(&world.token("jobexec-administrator").await);
    let path = format!("/api/system/executions/{}/retry", world.named("jobs/1"));
    let (status, refused) = admin.post(&path).await;
    assert_eq!((status, &refused["reason"]), (409, &json!("RetryNotPossible")), "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains(why), "{refused}");
    // Ids or a reason, and never both.
    for args in [
        &["retry"][..],
        &["retry", "1", "--reason", "HeartbeatLost", "--since", "1h"],
        &["retry", "--reason", "HeartbeatLost"],
        &["retry", "--reason", "JobFinished", "--since", "1h"],
    ] {
        assert_eq!(jobexec(&world, args).0, Some(2), "{args:?}");
    }
    assert!(operator.stop().success());
}
