//! The circuit breaker: a sweep that would end too many executions waits until somebody resumes it.

use jobexec_operator::api::{ExecutionStore, ExecutionStoreStatus};
use serde_json::json;

use crate::support::{Operator, World, is, message};

const RESUME: &str = "jobexec.dev/resume";

/// Inserts this many stale rows, with ids from `first`.
async fn stale(world: &World, first: i64, count: i64) {
    world
        .sql(&format!(
            "INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '2 days' \
             FROM generate_series({first}, {}) n",
            first + count - 1
        ))
        .await;
}

/// Inserts this many rows that have just started.
async fn healthy(world: &World, first: i64, count: i64) {
    world
        .sql(&format!(
            "INSERT INTO job_executions SELECT n, 1, n, 'running', now() FROM generate_series({first}, {}) n",
            first + count - 1
        ))
        .await;
}

async fn failed(world: &World) -> i64 {
    world.one("SELECT count(*) FROM job_executions WHERE status = 'failed'").await
}

/// Makes every statement fail that updates such a row, for a reason unrelated to the row.
async fn refuse(world: &World, table: &str, when: &str) {
    world
        .sql(&format!(
            "CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN RAISE 'not now' USING ERRCODE = 'disk_full'; END $$; \
             CREATE TRIGGER refuses BEFORE UPDATE ON {table} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION refuses()"
        ))
        .await;
}

async fn open(world: &World, operator: &Operator) -> ExecutionStoreStatus {
    world.store_until(operator, |s| is(&s.conditions, "EnforcementPaused", "True", "BreakerOpen")).await
}

async fn closed(world: &World, operator: &Operator) -> ExecutionStoreStatus {
    world.store_until(operator, |s| is(&s.conditions, "EnforcementPaused", "False", "Enforcing")).await
}

#[tokio::test]
async fn too_many_at_once_wait_for_a_person() {
    let world = World::new("breaker").await;
    stale(&world, 1, 4).await;
    healthy(&world, 101, 10).await;
    let rows = "SELECT string_agg(t::text || t.xmin::text, '|' ORDER BY id) FROM job_executions t";
    let before: String = world.one(rows).await;
    let operator = world.operator();
    world.store(json!({"maxFailuresPerSweep": 3})).await;
    let status = open(&world, &operator).await;
    let text = message(&status.conditions, "EnforcementPaused");
    assert!(
        text.contains("would end 4 executions") && text.contains("maxFailuresPerSweep allows 3"),
        "{text}"
    );
    assert!(text.contains("kubectl annotate executionstore jobs jobexec.dev/resume="), "{text}");
    assert!(is(&status.conditions, "Ready", "False", "BreakerOpen"), "{:#?}", status.conditions);
    let note = world.event_until(&operator, "jobs", "BreakerOpen").await;
    assert!(note.contains("would end 4 executions"), "{note}");
    let status =
        world.store_until(&operator, |s| s.metrics.as_ref().is_some_and(|m| m.stale_executions == 4)).await;
    assert!(status.last_sweep.is_none() && status.observed_resume.is_none());

    // It stays open although fewer are stale now, and after a restart.
    world.sql("UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id <= 2").await;
    operator.kill();
    let operator = world.operator();
    let status =
        world.store_until(&operator, |s| s.metrics.as_ref().is_some_and(|m| m.stale_executions == 2)).await;
    assert!(is(&status.conditions, "EnforcementPaused", "True", "BreakerOpen"), "{:#?}", status.conditions);
    assert!(world.one::<bool>("SELECT paused_at IS NOT NULL FROM jobexec.stores").await);
    let others =
        "SELECT string_agg(t::text || t.xmin::text, '|' ORDER BY id) FROM job_executions t WHERE id > 2";
    let after: String = world.one(others).await;
    assert!(before.ends_with(&after), "no row was touched: {before} {after}");
    world.sql("UPDATE job_executions SET status = 'running', completed_at = NULL WHERE id <= 2").await;
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.events WHERE action = 'Failed'").await, 0);

    // One sweep runs, however many are stale, and the next excess opens it again.
    world.annotate(RESUME, "first").await;
    let status = closed(&world, &operator).await;
    let status = if status.last_sweep.is_some() {
        status
    } else {
        world.store_until(&operator, |s| s.last_sweep.is_some()).await
    };
    let sweep = status.last_sweep.unwrap();
    assert_eq!((sweep.trigger.as_str(), sweep.failed, sweep.remaining), ("Resumed", 4, 0));
    assert_eq!(status.observed_resume.as_deref(), Some("first"));
    assert_eq!(failed(&world).await, 4);
    stale(&world, 11, 5).await;
    let status = open(&world, &operator).await;
    assert!(message(&status.conditions, "EnforcementPaused").contains("would end 5 executions"));

    // The old value does not close it, even if the operator that read it is gone.
    operator.kill();
    let operator = world.operator();
    world.execution("eleven", "11", json!({})).await;
    world.execution_until(&operator, "eleven", |s| is(&s.conditions, "Bound", "True", "RowFound")).await;
    open(&world, &operator).await;
    assert_eq!(failed(&world).await, 4);
    world.annotate(RESUME, "second").await;
    world.store_until(&operator, |s| s.observed_resume.as_deref() == Some("second")).await;
    world.until_true("SELECT count(*) = 9 FROM job_executions WHERE status = 'failed'").await;
    assert_eq!(
        world.one::<i64>("SELECT count(*) FROM job_executions WHERE id > 100 AND status = 'running'").await,
        10
    );
}

#[tokio::test]
async fn a_request_to_go_on_counts_only_while_it_is_open() {
    let world = World::new("notopen").await;
    stale(&world, 1, 4).await;
    // As restored from a backup.
    let mut object = World::store_with("jobs", json!({"maxFailuresPerSweep": 3}));
    object["metadata"]["annotations"] = json!({RESUME: "old"});
    world.apply::<ExecutionStore>("jobs", object).await.unwrap();
    let operator = world.operator();
    open(&world, &operator).await;
    // A new operator that has not read it ignores it too.
    operator.kill();
    let operator = world.operator();
    world.execution("first", "1", json!({})).await;
    world.execution_until(&operator, "first", |s| is(&s.conditions, "Bound", "True", "RowFound")).await;
    open(&world, &operator).await;
    assert_eq!(failed(&world).await, 0);
    world.annotate(RESUME, "new").await;
    world.until_true("SELECT count(*) = 4 FROM job_executions WHERE status = 'failed'").await;
}

#[tokio::test]
async fn a_request_to_go_on_that_could_not_be_noted_is_read_again() {
    let world = World::new("unnoted").await;
    stale(&world, 1, 4).await;
    let operator = world.operator();
    world.store(json!({"maxFailuresPerSweep": 3})).await;
    open(&world, &operator).await;
    world
        .sql("ALTER TABLE jobexec.stores ADD CONSTRAINT stays_open CHECK (paused_at IS NOT NULL) NOT VALID")
        .await;
    world.annotate(RESUME, "once").await;
    let status = world
        .store_until(&operator, |s| is(&s.conditions, "EnforcementPaused", "True", "RecordRefused"))
        .await;
    assert_eq!((status.observed_resume, failed(&world).await), (None, 0));
    world.sql("ALTER TABLE jobexec.stores DROP CONSTRAINT stays_open").await;
    let status = world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    assert_eq!(status.observed_resume.as_deref(), Some("once"));
    assert_eq!(failed(&world).await, 4);
}

#[tokio::test]
async fn a_sweep_that_was_let_go_on_and_breaks_off_goes_on_by_itself() {
    let world = World::new("brokenoff").await;
    // More than one batch; the first two do not contain the row in the middle.
    stale(&world, 1, 15_000).await;
    world.sql("UPDATE job_executions SET started_at = started_at + id * interval '1 second'").await;
    let operator = world.operator();
    world.store(json!({"maxFailuresPerSweep": 3})).await;
    open(&world, &operator).await;
    refuse(&world, "job_executions", "OLD.id = 7500").await;
    world.annotate(RESUME, "once").await;
    let status =
        world.store_until(&operator, |s| is(&s.conditions, "EnforcementPaused", "True", "DiskFull")).await;
    assert!(status.last_sweep.is_none() && failed(&world).await >= 5_000, "{status:#?}");
    // It loses its connections too.
    world.terminate().await;
    world.sql("DROP TRIGGER refuses ON job_executions").await;
    let status = world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    assert_eq!(status.last_sweep.unwrap().trigger, "Resumed");
    assert_eq!(failed(&world).await, 15_000);
    let mut opened: Vec<String> = world.events().await.into_iter().filter_map(|event| event.note).collect();
    opened.retain(|note| note.starts_with("EnforcementPaused: a sweep would end"));
    assert_eq!(opened.len(), 1, "{opened:#?}");
    // The permission was for one sweep.
    stale(&world, 20_001, 4).await;
    open(&world, &operator).await;
    assert_eq!(failed(&world).await, 15_000);
}

#[tokio::test]
async fn what_was_allowed_under_one_spec_is_not_under_another() {
    let world = World::new("otherspec").await;
    stale(&world, 1, 4).await;
    let operator = world.operator();
    world.store(json!({"maxFailuresPerSweep": 3})).await;
    open(&world, &operator).await;
    refuse(&world, "job_executions", "true").await;
    world.annotate(RESUME, "once").await;
    world.store_until(&operator, |s| is(&s.conditions, "EnforcementPaused", "True", "DiskFull")).await;
    world.store(json!({"maxFailuresPerSweep": 2})).await;
    let status = open(&world, &operator).await;
    assert!(message(&status.conditions, "EnforcementPaused").contains("allows 2"), "{status:#?}");
    world.sql("DROP TRIGGER refuses ON job_executions").await;
    world.execution("first", "1", json!({})).await;
    world.execution_until(&operator, "first", |s| is(&s.conditions, "Bound", "True", "RowFound")).await;
    open(&world, &operator).await;
    assert_eq!(failed(&world).await, 0);
}

#[tokio::test]
async fn a_share_counts_only_of_many() {
    let world = World::new("share").await;
    // 10 of 19 are more than a half, but of few rows; 10 of 20 are not more than a half.
    stale(&world, 1, 10).await;
    healthy(&world, 101, 9).await;
    let operator = world.operator();
    world.store(json!({"maxFailuresPerSweep": "50%"})).await;
    let status = world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    assert_eq!(status.last_sweep.unwrap().failed, 10);
    healthy(&world, 201, 1).await;
    stale(&world, 11, 10).await;
    world.until_true("SELECT count(*) = 20 FROM job_executions WHERE status = 'failed'").await;
    // In one statement, so that no reconcile reads a part of it.
    world
        .sql(
            "INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '2 days' FROM generate_series(21, 31) n",
        )
        .await;
    let status = open(&world, &operator).await;
    let text = message(&status.conditions, "EnforcementPaused");
    assert!(
        text.contains("would end 11 of 21 running executions") && text.contains("allows 10, 50% of them"),
        "{text}"
    );
    assert_eq!(failed(&world).await, 20);
}

#[tokio::test]
async fn another_limit_and_a_person_at_the_database_close_it() {
    let world = World::new("closing").await;
    stale(&world, 1, 4).await;
    let operator = world.operator();
    world.store(json!({"maxFailuresPerSweep": 2})).await;
    open(&world, &operator).await;
    // Raised, but not enough.
    world.store(json!({"maxFailuresPerSweep": 3})).await;
    world.store_until(&operator, |s| message(&s.conditions, "EnforcementPaused").contains("allows 3")).await;
    assert_eq!(failed(&world).await, 0);
    world.store(json!({"maxFailuresPerSweep": 4})).await;
    closed(&world, &operator).await;
    world.until_true("SELECT count(*) = 4 FROM job_executions WHERE status = 'failed'").await;
    assert!(world.one::<bool>("SELECT paused_at IS NULL FROM jobexec.stores").await);

    // The same if the spec changes while no operator runs.
    stale(&world, 11, 5).await;
    open(&world, &operator).await;
    operator.kill();
    world.store(json!({"maxFailuresPerSweep": "100%"})).await;
    let operator = world.operator();
    world.until_true("SELECT count(*) = 9 FROM job_executions WHERE status = 'failed'").await;

    // Clearing it in the database closes it, and it opens again only with another excess.
    closed(&world, &operator).await;
    world.store_changed(&operator, json!({"maxFailuresPerSweep": 2})).await;
    stale(&world, 21, 3).await;
    open(&world, &operator).await;
    world.sql("UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 21").await;
    world.sql("UPDATE jobexec.stores SET paused_at = NULL").await;
    closed(&world, &operator).await;
    world.until_true("SELECT count(*) = 11 FROM job_executions WHERE status = 'failed'").await;
}

#[tokio::test]
async fn observing_opens_nothing_and_what_only_alerts_does_not_count() {
    let world = World::new("quiet").await;
    stale(&world, 1, 5).await;
    let operator = world.operator();
    world.store(json!({"maxFailuresPerSweep": 1, "mode": "Observe"})).await;
    world
        .store_until(&operator, |s| {
            is(&s.conditions, "EnforcementPaused", "True", "Observing")
                && s.metrics.as_ref().is_some_and(|m| m.stale_executions == 5)
        })
        .await;
    assert!(world.one::<bool>("SELECT paused_at IS NULL FROM jobexec.stores").await);
    world.policy("alert", json!({"onStale": "AlertOnly"})).await;
    world.policy_until(&operator, "alert", |s| is(&s.conditions, "Accepted", "True", "InForce")).await;
    world.store(json!({"maxFailuresPerSweep": 1, "mode": "Enforce"})).await;
    let status = world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    assert!(is(&status.conditions, "EnforcementPaused", "False", "Enforcing"), "{:#?}", status.conditions);
    assert_eq!(failed(&world).await, 0);
}
