//! The steps for an execution that runs for long: a warning, the deadline, and the action after that; and a change of the
//! deadline by a user.

use jobexec_operator::api::{ExecutionPolicy, JobExecution, Phase};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::{Operator, World, is, message};

/// The records of each row, in order.
async fn noted(world: &World) -> String {
    world
        .one(
            "SELECT COALESCE(string_agg(concat_ws(' ', execution_id, action, reason, source), ', ' \
             ORDER BY execution_id::bigint, event_id), '') FROM jobexec.events",
        )
        .await
}

async fn start(world: &World, id: i64, job: i64, age: &str) {
    world
        .sql(&format!(
            "INSERT INTO job_executions VALUES ({id}, {job}, {id}, 'running', now() - interval '{age}')"
        ))
        .await;
}

/// The Events about an object with this reason.
async fn events(world: &World, name: &str, reason: &str) -> Vec<Event> {
    let about = |e: &Event| e.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(name);
    let mut events = world.events().await;
    events.retain(|e| e.reason.as_deref() == Some(reason) && about(e));
    events
}

async fn accepted(world: &World, operator: &Operator, name: &str) {
    world.policy_until(operator, name, |s| is(&s.conditions, "Accepted", "True", "InForce")).await;
}

/// For an execution whose timeout an object sets or removes at the same moment.
#[tokio::test]
async fn more_time_that_a_person_gives_without_an_object_is_not_lost_to_a_change_of_the_rules() {
    let world = World::new("bothways").await;
    start(&world, 7, 1, "1 hour").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    let waits = format!(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = '{}' AND wait_event_type = 'Lock')",
        world.role
    );
    let rule = |timeout: &str| {
        format!(
            "SELECT extend_by = '9 hours' AND extend_source = 'CommandLine/me' AND timeout IS {timeout} FROM jobexec.rules \
             WHERE scope = 'execution' AND key = '7'"
        )
    };
    // The statements of `jobexec extend`, not committed yet.
    let mut person = world.pool.begin().await.unwrap();
    sqlx::raw_sql(
        "INSERT INTO jobexec.rules (store_id, scope, key, extend_by, extend_source, overruled, earliest, fixed) \
         SELECT store_id, 'execution', '7', '9 hours', 'CommandLine/me', '{}', '0', false FROM jobexec.stores",
    )
    .execute(&mut *person)
    .await
    .unwrap();
    world.execution("seven", "7", json!({"timeout": "5h"})).await;
    world.until_true(&waits).await;
    person.commit().await.unwrap();
    world.execution_until(&operator, "seven", |s| is(&s.conditions, "Accepted", "True", "InForce")).await;
    assert!(world.one::<bool>(&rule("NOT NULL")).await);

    // The same while the object, and with it the rule, is being removed.
    world.sql("UPDATE jobexec.rules SET extend_by = NULL, extend_source = NULL WHERE key = '7'").await;
    let mut person = world.pool.begin().await.unwrap();
    sqlx::raw_sql(
        "UPDATE jobexec.rules SET extend_by = '9 hours', extend_source = 'CommandLine/me' WHERE key = '7'",
    )
    .execute(&mut *person)
    .await
    .unwrap();
    world.delete::<JobExecution>("seven").await;
    world.until_true(&waits).await;
    person.commit().await.unwrap();
    world.until_true(&rule("NULL")).await;
}

#[tokio::test]
async fn an_execution_is_warned_of_once_and_then_meets_its_deadline() {
    let world = World::new("ladder").await;
    start(&world, 1, 1, "10 minutes").await;
    start(&world, 2, 2, "10 minutes").await;
    // Before the warning; by the store's 1h; past their deadlines, when it is too late for a warning.
    start(&world, 3, 1, "2 minutes").await;
    start(&world, 4, 2, "2 minutes").await;
    start(&world, 5, 5, "2 hours").await;
    start(&world, 6, 1, "2 days").await;
    start(&world, 7, 2, "61 minutes").await;
    world.policy("minutes", json!({"warnAfter": {"duration": "5m"}, "selector": {"jobIds": ["1"]}})).await;
    let percent =
        json!({"timeout": "1h", "warnAfter": {"timeoutPercent": 10}, "selector": {"jobIds": ["2"]}});
    world.policy("percent", percent).await;
    for id in ["1", "2", "3"] {
        world.execution(&format!("e{id}"), id, json!({})).await;
    }
    let operator = world.operator();
    world.store(json!({})).await;
    for (name, source) in [("e1", "ExecutionPolicy/minutes"), ("e2", "ExecutionPolicy/percent")] {
        let status = world
            .execution_until(&operator, name, |s| is(&s.conditions, "LongRunning", "True", "LongRunning"))
            .await;
        assert!(message(&status.conditions, "LongRunning").contains(source), "{:#?}", status.conditions);
        assert_eq!(status.phase, Some(Phase::Running));
        assert!(world.event_until(&operator, name, "LongRunning").await.contains(source));
    }
    world
        .execution_until(&operator, "e3", |s| is(&s.conditions, "LongRunning", "False", "WithinLimits"))
        .await;
    world
        .store_until(&operator, |s| s.metrics.as_ref().is_some_and(|m| m.long_running_executions == 3))
        .await;
    world.request_sweep(&operator).await;
    let expected = "1 Warned LongRunning ExecutionPolicy/minutes, 2 Warned LongRunning ExecutionPolicy/percent, \
         5 Warned LongRunning ExecutionStore/jobs, 6 Failed DeadlineExceeded ExecutionStore/jobs, \
         7 Failed DeadlineExceeded ExecutionPolicy/percent";
    assert_eq!(noted(&world).await, expected);
    operator.kill();
    let operator = world.operator();
    // The new operator warns about a new one, and not about the others again.
    start(&world, 8, 1, "6 minutes").await;
    world.until_true("SELECT EXISTS (SELECT FROM jobexec.events WHERE execution_id = '8')").await;
    world.request_sweep(&operator).await;
    assert_eq!(noted(&world).await, format!("{expected}, 8 Warned LongRunning ExecutionPolicy/minutes"));
    world.execution("e8", "8", json!({})).await;
    world.event_until(&operator, "e8", "LongRunning").await;
    for name in ["e1", "e2", "e8"] {
        assert_eq!(events(&world, name, "LongRunning").await.len(), 1, "{name}");
    }
    assert!(events(&world, "e3", "LongRunning").await.is_empty());

    // The next steps.
    let spec = json!({"timeout": "9m", "onStale": "Cancel", "selector": {"jobIds": ["1"]}});
    world.policy("minutes", spec).await;
    let status = world.execution_until(&operator, "e1", |s| s.phase == Some(Phase::Cancelled)).await;
    assert!(is(&status.conditions, "LongRunning", "False", "Finished"), "{:#?}", status.conditions);
    let one: String = world
        .one("SELECT string_agg(action || ' ' || reason, ', ' ORDER BY event_id) FROM jobexec.events WHERE execution_id = '1'")
        .await;
    assert_eq!(one, "Warned LongRunning, Cancelled DeadlineExceeded");
}

/// Status and Events of execution 1 say that the operator cancelled it.
async fn cancelled_and_shown(world: &World, operator: &Operator) {
    let status = world.execution_until(operator, "e1", |s| s.phase == Some(Phase::Cancelled)).await;
    assert!(is(&status.conditions, "Finished", "True", "Cancelled"), "{:#?}", status.conditions);
    assert!(is(&status.conditions, "Succeeded", "False", "DeadlineExceeded"), "{:#?}", status.conditions);
    assert!(message(&status.conditions, "Succeeded").contains("was cancelled by the operator"));
    let note = world.event_until(operator, "e1", "DeadlineExceeded").await;
    assert!(note.contains("cancelled by the operator"), "{note}");
    let note = world.event_until(operator, "jobs", "StaleExecutionsFailed").await;
    assert!(
        note.contains("1 (job 1, #1, 48.0 h, cancelled)") && note.contains("3 (job 3, #3, 48.0 h)"),
        "{note}"
    );
}

/// If the table has no text for cancelled executions, execution 4 is failed, and that is reported.
async fn failed_for_want_of_a_status(world: &World, operator: &Operator) {
    let statuses = json!({"table": {"statuses": {"cancelled": []}}});
    world.store_changed(operator, statuses).await;
    world.policy("all", json!({"onStale": "Cancel", "timeout": "1h"})).await;
    let told =
        world.policy_until(operator, "all", |s| is(&s.conditions, "Accepted", "False", "NotSupported")).await;
    assert!(
        message(&told.conditions, "Accepted").contains("stale executions are failed"),
        "{:#?}",
        told.conditions
    );
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 4").await;
}

#[tokio::test]
async fn what_becomes_of_a_stale_execution_is_what_its_policy_says() {
    let world = World::new("ontimeout").await;
    for id in 1..=3 {
        start(&world, id, id, "2 days").await;
        world.execution(&format!("e{id}"), &id.to_string(), json!({})).await;
    }
    let row = "SELECT t::text || t.xmin::text || t.ctid::text FROM job_executions t WHERE id = 2";
    let before: String = world.one(row).await;
    world.policy("cancel", json!({"onStale": "Cancel", "selector": {"jobIds": ["1"]}})).await;
    world.policy("alert", json!({"onStale": "AlertOnly", "selector": {"jobIds": ["2"]}})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world.store_until(&operator, |s| s.last_sweep.is_some() && s.metrics.is_some()).await;
    let metrics = status.metrics.unwrap();
    assert_eq!((metrics.running_executions, metrics.stale_executions), (1, 1), "AlertOnly counts as stale");
    let ends: String = world
        .one("SELECT string_agg(concat_ws(' ', id, status, completed_at > now() - interval '1 hour'), ', ' ORDER BY id) FROM job_executions")
        .await;
    assert_eq!(ends, "1 cancelled t, 2 running, 3 failed t");

    cancelled_and_shown(&world, &operator).await;

    operator.kill();
    let operator = world.operator();
    world.execution("again", "2", json!({})).await;
    world.execution_until(&operator, "again", |s| s.phase == Some(Phase::Running)).await;
    world.request_sweep(&operator).await;
    let two = "SELECT string_agg(concat_ws(' ', action, reason, source), ', ' ORDER BY event_id) FROM jobexec.events \
         WHERE execution_id = '2'";
    assert_eq!(world.one::<String>(two).await, "Alerted DeadlineExceeded ExecutionStore/jobs");
    assert_eq!(world.one::<String>(row).await, before, "AlertOnly changes no byte of the row");
    // Also if it applies to all.
    world.policy("all", json!({"onStale": "AlertOnly", "timeout": "1h"})).await;
    start(&world, 4, 4, "2 hours").await;
    world
        .until_true(
            "SELECT EXISTS (SELECT FROM jobexec.events WHERE execution_id = '4' AND action = 'Alerted')",
        )
        .await;
    world.store_until(&operator, |s| s.metrics.as_ref().is_some_and(|m| m.stale_executions == 2)).await;
    world.request_sweep(&operator).await;
    assert_eq!(world.status(4).await, "running");

    world.policy("alert", json!({"onStale": "Fail", "selector": {"jobIds": ["2"]}})).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
    failed_for_want_of_a_status(&world, &operator).await;
    accepted(&world, &operator, "alert").await;
}

/// The minutes from the start to the deadline in the status.
fn deadline(status: &jobexec_operator::api::JobExecutionStatus) -> Option<i64> {
    let (start, deadline) = (status.started_at.as_ref()?, status.deadline.as_ref()?);
    Some(deadline.0.duration_since(start.0).as_mins())
}

/// Applies an object as this field manager, which then owns its fields.
async fn apply_as(world: &World, manager: &str, name: &str, object: Value) {
    let params = PatchParams::apply(manager).force();
    world.api::<JobExecution>().patch(name, &params, &Patch::Apply(object)).await.unwrap();
}

#[tokio::test]
async fn a_deadline_is_moved_while_the_execution_runs_and_that_is_recorded() {
    let world = World::new("extend").await;
    start(&world, 1, 1, "25 hours").await;
    world.execution("e", "1", json!({"extendBy": "2h"})).await;
    let operator = world.operator();
    world.store(json!({"pollInterval": "10m", "gracePeriod": "5m"})).await;
    let status =
        world.execution_until(&operator, "e", |s| is(&s.conditions, "Accepted", "True", "InForce")).await;
    assert_eq!(deadline(&status), Some(26 * 60 + 5));
    assert_eq!(status.timeout_source.as_deref(), Some("ExecutionStore/jobs"));
    let moved = "SELECT COALESCE(string_agg(concat_ws(' ', execution_id, reason, source, actor), ', ' ORDER BY event_id), '') \
         FROM jobexec.events WHERE action = 'DeadlineMoved'";
    assert_eq!(world.one::<String>(moved).await, "1 SpecChanged JobExecution/e test");

    // The same content again, or written differently, adds nothing.
    world.execution("e", "1", json!({"extendBy": "2h"})).await;
    world.execution("e", "1", json!({"extendBy": "120m"})).await;
    let status = world.execution_until(&operator, "e", |s| s.observed_generation == Some(2)).await;
    assert_eq!(deadline(&status), Some(26 * 60 + 5));
    assert_eq!(world.one::<String>(moved).await, "1 SpecChanged JobExecution/e test");

    apply_as(
        &world,
        "alice",
        "e",
        World::execution_with("e", "1", json!({"timeout": "30h", "extendBy": "1h"})),
    )
    .await;
    let status = world.execution_until(&operator, "e", |s| deadline(s) == Some(31 * 60 + 5)).await;
    assert_eq!(
        (status.timeout.as_deref(), status.timeout_source.as_deref()),
        (Some("30h"), Some("JobExecution/e"))
    );
    assert_eq!(
        world.one::<String>(moved).await,
        "1 SpecChanged JobExecution/e test, 1 SpecChanged JobExecution/e alice"
    );

    // Without the extension, the deadline is back at the earlier time, which has passed.
    world.delete::<JobExecution>("e").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    assert!(world.one::<String>(moved).await.ends_with(", 1 SpecRemoved JobExecution/e"));
    // Too late.
    world.execution("late", "1", json!({"extendBy": "9h"})).await;
    let late = world
        .execution_until(&operator, "late", |s| is(&s.conditions, "Accepted", "False", "ExecutionFinished"))
        .await;
    assert!(is(&late.conditions, "Succeeded", "False", "DeadlineExceeded"), "{:#?}", late.conditions);
    assert_eq!(deadline(&late), Some(24 * 60 + 5), "the deadline that it was failed by");
    assert!(message(&late.conditions, "Succeeded").ends_with("the timeout is from ExecutionStore/jobs"));
    world
        .sql("INSERT INTO job_executions VALUES (2, 1, 2, 'completed', now() - interval '1 hour', now())")
        .await;
    world.execution("over", "2", json!({"timeout": "1m"})).await;
    world
        .execution_until(&operator, "over", |s| is(&s.conditions, "Accepted", "False", "ExecutionFinished"))
        .await;
    assert_eq!(world.status(2).await, "completed");
}

#[tokio::test]
async fn of_two_objects_for_one_row_the_older_counts() {
    let world = World::new("two").await;
    start(&world, 1, 1, "1 hour").await;
    // The same age or older, and then the name decides.
    world.execution("a", "1", json!({"timeout": "30h"})).await;
    world.execution("b", "1", json!({"extendBy": "10h"})).await;
    world.execution("silent", "1", json!({})).await;
    world.policy("p", json!({"timeout": "2h"})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let told =
        world.execution_until(&operator, "b", |s| is(&s.conditions, "Accepted", "False", "Overridden")).await;
    let text = message(&told.conditions, "Accepted");
    assert!(text.contains("JobExecution/a") && text.contains("Change that one, or delete it"), "{text}");
    assert_eq!(deadline(&told), Some(30 * 60));
    let first =
        world.execution_until(&operator, "a", |s| is(&s.conditions, "Accepted", "True", "InForce")).await;
    assert_eq!(deadline(&first), Some(30 * 60));
    let silent = world.execution_until(&operator, "silent", |s| deadline(s) == Some(30 * 60)).await;
    assert!(!silent.conditions.iter().any(|c| c.type_ == "Accepted"), "it asks for nothing");

    world.delete::<JobExecution>("a").await;
    let second =
        world.execution_until(&operator, "b", |s| is(&s.conditions, "Accepted", "True", "InForce")).await;
    assert_eq!(deadline(&second), Some(12 * 60), "on top of the policy's timeout");
    world.delete::<ExecutionPolicy>("p").await;
    world.execution_until(&operator, "b", |s| deadline(s) == Some(34 * 60)).await;
}
