//! Evidence of death other than the deadline: a lost heartbeat, a finished job, a later execution.

use jobexec_operator::api::Phase;
use serde_json::{Value, json};

use crate::support::world::{CASE, TABLE};
use crate::support::{Operator, World, blocking, is, message};

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

/// Each ended row, with the reason.
const ENDED: &str = "SELECT string_agg(concat_ws(' ', execution_id, action, reason), ', ' ORDER BY execution_id::bigint) \
     FROM jobexec.events WHERE action IN ('Failed', 'Cancelled')";

/// Checks how the object of a row and its Events report the end of the row.
async fn told(world: &World, operator: &Operator, name: &str, reason: &str, words: &str) {
    let status =
        world.execution_until(operator, name, |s| is(&s.conditions, "Finished", "True", "Failed")).await;
    assert!(is(&status.conditions, "Succeeded", "False", reason), "{:#?}", status.conditions);
    assert_eq!(status.reason.as_deref(), Some(reason));
    let text = message(&status.conditions, "Succeeded");
    assert!(text.contains(words), "{words} not in {text}");
    let note = world.event_until(operator, name, reason).await;
    assert!(note.contains(words), "{words} not in {note}");
}

/// Makes the operator reconcile and sweep with all evidence.
async fn look(world: &World, operator: &Operator) {
    world.request_sweep(operator).await;
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

#[tokio::test]
async fn an_execution_of_a_finished_job_fails_once_the_job_was_seen_finished_for_the_grace() {
    let spec = |grace: &str| json!({"jobs": {"gracePeriod": grace}, "defaultTimeout": "99999h"});
    let world = World::with("finished", CASE, &spec("1h")).await;
    world
        .sql(
            "INSERT INTO job_executions (id, job_id, execution_number, status, started_at) VALUES \
             (41, 20, 4, 'running', now() - interval '1 minute'), (42, 22, 2, 'running', now() - interval '1 day'); \
             UPDATE jobs SET status = 'running'",
        )
        .await;
    world.execution("the-case", "39", json!({})).await;
    let operator = world.operator();
    world.store(spec("1h")).await;
    world.until_true("SELECT count(*) = 4 FROM jobexec.observations WHERE kind = 'JobUnfinished'").await;
    world.sql("UPDATE jobs SET status = 'completed' WHERE id < 22").await;
    let suspects =
        "SELECT COALESCE(string_agg(execution_id, ' ' ORDER BY execution_id), '') FROM jobexec.suspects";
    world.until_true(&format!("SELECT ({suspects}) = '39 41'")).await;
    look(&world, &operator).await;
    let running: i64 = world.one("SELECT count(*) FROM job_executions WHERE status = 'running'").await;
    assert_eq!(running, 4, "nothing is failed within the grace");

    // A job that continues after all removes the suspicion, which starts again when the job ends.
    let since = "SELECT since FROM jobexec.suspects WHERE execution_id = '39'";
    let first: chrono::DateTime<chrono::Utc> = world.one(since).await;
    world.sql("UPDATE jobs SET status = 'running' WHERE id = 21").await;
    world.until_true(&format!("SELECT ({suspects}) = '41'")).await;
    world.sql("UPDATE jobs SET status = 'completed' WHERE id = 21").await;
    world.until_true(&format!("SELECT ({suspects}) = '39 41'")).await;
    let again: chrono::DateTime<chrono::Utc> = world.one(since).await;
    assert!(again > first);

    // A worker that commits in between wins.
    let mut worker = world.pool.begin().await.unwrap();
    sqlx::raw_sql("UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 41")
        .execute(&mut *worker)
        .await
        .unwrap();
    world.store(spec("1s")).await;
    told(&world, &operator, "the-case", "JobFinished", "still running although its job is finished").await;
    worker.commit().await.unwrap();
    look(&world, &operator).await;
    assert_eq!(world.status(41).await, "completed");
    assert_eq!((world.status(40).await, world.status(42).await), ("running".into(), "running".into()));
    assert_eq!(world.one::<String>(ENDED).await, "39 Failed JobFinished");
    let source: String = world.one("SELECT source FROM jobexec.events WHERE action = 'Failed'").await;
    assert_eq!(source, "ExecutionStore/jobs");
    let note = world.event_until(&operator, "jobs", "StaleExecutionsFailed").await;
    assert!(note.contains("39 (job 21, #5, ") && note.contains("JobFinished"), "{note}");
    world.until_true(&format!("SELECT ({suspects}) = ''")).await;
}

#[tokio::test]
async fn of_executions_that_come_one_after_the_other_only_the_last_can_run() {
    let world = World::new("sequence").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT j * 10 + n, j, n, 'running', now() - (3 - n) * interval '1 hour' \
             FROM generate_series(1, 5) j, generate_series(1, 2) n; \
             UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 22; \
             UPDATE job_executions SET status = 'scheduled', started_at = NULL WHERE id = 32; \
             UPDATE job_executions SET started_at = now() + interval '1 hour' WHERE id = 42; \
             UPDATE job_executions SET execution_number = 1, started_at = now() WHERE id = 52",
        )
        .await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    let running: i64 = world.one("SELECT count(*) FROM job_executions WHERE status = 'running'").await;
    assert_eq!(running, 8, "without singleActiveExecution they may run beside each other");
    // The later executions of jobs 1 and 2 have run for an hour.
    world.store(json!({"singleActiveExecution": {"gracePeriod": "61m"}})).await;
    world.execution("eleven", "11", json!({})).await;
    world.execution_until(&operator, "eleven", |s| s.phase == Some(Phase::Running)).await;
    look(&world, &operator).await;
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.events WHERE action = 'Failed'").await, 0);

    world.store(json!({"singleActiveExecution": {"gracePeriod": "59m"}})).await;
    told(&world, &operator, "eleven", "Superseded", "a later execution of its job has started").await;
    look(&world, &operator).await;
    assert_eq!(world.one::<String>(ENDED).await, "11 Failed Superseded, 21 Failed Superseded");
}

#[tokio::test]
async fn a_later_execution_that_never_ran_supersedes_nothing() {
    let world = World::new("skipped").await;
    // Job 1 is at work, and five ticks of its schedule were skipped. Job 2 has run again, and was then cancelled. The
    // first run of job 3 is retried, in its own row, after the second one.
    let ago = |minutes: u32| format!("now() - interval '{minutes} minutes'");
    let rows = [
        format!("(15, 1, 5, 'running', {}, NULL)", ago(50)),
        format!("(16, 1, 6, 'cancelled', {0}, {0})", ago(40)),
        format!("(17, 1, 7, 'skipped', {0}, {0})", ago(35)),
        format!("(18, 1, 8, 'cancelled', {0}, {0} + interval '9 ms')", ago(30)),
        format!("(19, 1, 9, 'completed', {0}, {0})", ago(20)),
        format!("(20, 1, 10, 'skipped', {}, NULL)", ago(10)),
        // It waited for its job for less than the grace period, and gave up.
        format!("(24, 1, 11, 'failed', {}, {})", ago(30), ago(26)),
        format!("(21, 2, 1, 'running', {}, NULL)", ago(50)),
        format!("(22, 2, 2, 'cancelled', {}, {})", ago(40), ago(30)),
        format!("(31, 3, 1, 'running', {}, NULL)", ago(20)),
        format!("(32, 3, 2, 'completed', {}, {})", ago(50), ago(40)),
    ];
    world.sql(&format!("INSERT INTO job_executions VALUES {}", rows.join(", "))).await;
    world.execution("superseded", "21", json!({})).await;
    let operator = world.operator();
    world.store(json!({"singleActiveExecution": {"gracePeriod": "5m"}})).await;
    told(&world, &operator, "superseded", "Superseded", "a later execution of its job has started").await;
    look(&world, &operator).await;
    assert_eq!(world.one::<String>(ENDED).await, "21 Failed Superseded");
}

#[tokio::test]
async fn an_execution_without_a_start_counts_from_when_it_was_first_seen_running() {
    let spec = json!({"table": {"columns": {"createdAt": "made"}}});
    let world = World::bare("unstarted").await;
    world.sql(&format!("{TABLE}; ALTER TABLE job_executions ADD made timestamptz")).await;
    // Each waited for two days except for the second, which was created an hour ago.
    world
        .sql(
            "INSERT INTO job_executions VALUES (1, 1, 1, 'running', NULL, NULL, now() - interval '2 days'), \
             (2, 1, 2, 'running', NULL, NULL, now() - interval '1 hour'), (3, 1, 3, 'running', NULL, NULL, NULL), \
             (4, 1, 4, 'running', now() - interval '1 hour', NULL, now() - interval '2 days'), \
             (5, 1, 5, 'scheduled', NULL, NULL, now() - interval '2 days'), \
             (6, 1, 6, 'running', NULL, NULL, now() - interval '2 days')",
        )
        .await;
    world.prepare_for(&spec).await;
    world.execution("unstarted", "1", json!({})).await;
    let operator = world.operator();
    world.store(spec.clone()).await;
    let status = world
        .store_until(&operator, |s| is(&s.conditions, "Consistent", "False", "RunningWithoutStartedAt"))
        .await;
    assert!(
        message(&status.conditions, "Consistent")
            .contains("first seen running in the present version of their row")
    );
    let seen = "SELECT string_agg(execution_id, ' ' ORDER BY execution_id) FROM jobexec.observations \
                WHERE kind = 'RunningWithoutStart'";
    world.until_true(&format!("SELECT ({seen}) = '1 2 3 6'")).await;
    look(&world, &operator).await;
    assert_eq!(world.one::<Option<String>>(ENDED).await, None, "the time in the queue does not count");

    // The observation survives a restart, and the creation counts if it is later.
    operator.kill();
    world
        .sql("UPDATE jobexec.observations SET since = now() - interval '25 hours' WHERE execution_id <> '6'")
        .await;
    let operator = world.operator();
    told(&world, &operator, "unstarted", "DeadlineExceeded", "past its deadline").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 3").await;
    look(&world, &operator).await;
    assert_eq!(world.one::<String>(ENDED).await, "1 Failed DeadlineExceeded, 3 Failed DeadlineExceeded");
    let file = world.file("store.yaml", &World::store_with("jobs", spec).to_string());
    let explain = |id: &str| String::from_utf8(world.jobexec(&["explain", id, "-f", &file]).stdout).unwrap();
    assert!(
        explain("6").contains(
            "when it was first seen running in the present version of its row, since it has no start"
        ),
        "{}",
        explain("6")
    );
    assert!(explain("2").contains("its creation, since it has no start"), "{}", explain("2"));

    // The threshold of a manual clean-up also applies to the observed run time.
    let older = || {
        let dry = world.jobexec(&["cleanup", "-f", &file, "--max-hours", "1", "--dry-run", "-o", "name"]);
        String::from_utf8(dry.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(!older().contains(&"6".to_owned()), "{:?}", older());
    world
        .sql("UPDATE jobexec.observations SET since = now() - interval '2 hours' WHERE execution_id = '6'")
        .await;
    assert!(older().contains(&"6".to_owned()), "{:?}", older());

    // The observation is deleted once the row has a start, or has ended.
    world.sql("UPDATE job_executions SET started_at = now() WHERE id = 6").await;
    world.until_true(&format!("SELECT ({seen}) = '2'")).await;
}

/// Executions without a start that were observed running 25 hours ago, while their operator is briefly gone.
async fn seen_without_a_start(test: &str) -> World {
    let world = World::new(test).await;
    world.sql("INSERT INTO job_executions SELECT n, n, 1, 'running' FROM generate_series(1, 2) AS n").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world
        .until_true("SELECT count(*) = 2 FROM jobexec.observations WHERE kind = 'RunningWithoutStart'")
        .await;
    operator.kill();
    world.sql("UPDATE jobexec.observations SET since = now() - interval '25 hours'").await;
    world
}

#[tokio::test]
async fn another_run_in_the_row_of_one_without_a_start_gets_its_own_time() {
    let world = seen_without_a_start("nextrun").await;
    world.sql("UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 1").await;
    world.sql("UPDATE job_executions SET status = 'running', completed_at = NULL WHERE id = 1").await;
    let file = world.file("store.yaml", &World::store_with("jobs", json!({})).to_string());
    // No operator has observed that run yet.
    let listed = world.jobexec(&["list", "--stale", "-f", &file, "-o", "name"]);
    assert_eq!(String::from_utf8(listed.stdout).unwrap(), "2\n");
    let operator = world.operator();
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
    look(&world, &operator).await;
    assert_eq!(world.status(1).await, "running");
    assert_eq!(world.one::<String>(ENDED).await, "2 Failed DeadlineExceeded");
    world
        .until_true(
            "SELECT since > now() - interval '1 hour' FROM jobexec.observations WHERE execution_id = '1'",
        )
        .await;
}

#[tokio::test]
async fn the_deadline_that_is_recorded_is_that_of_the_version_that_was_judged() {
    let world = seen_without_a_start("versions").await;
    // The row may hold another run by now, whose start was not observed.
    world.sql("UPDATE job_executions SET job_id = 3 WHERE id = 1").await;
    let file = world.file("store.yaml", &World::store_with("jobs", json!({})).to_string());
    let ended =
        world.jobexec(&["cleanup", "-f", &file, "--id", "1", "--id", "2", "--include-governed", "--yes"]);
    assert!(ended.status.success(), "{ended:?}");
    let recorded = "SELECT string_agg(concat_ws(' ', e.execution_id, e.deadline = o.since + interval '24 hours'), ', ' \
                    ORDER BY e.execution_id) FROM jobexec.events AS e JOIN jobexec.observations AS o USING (execution_id) \
                    WHERE e.action = 'Failed' AND o.kind = 'RunningWithoutStart'";
    assert_eq!(world.one::<String>(recorded).await, "1, 2 t");
}

#[tokio::test]
async fn a_row_in_a_foreign_table_has_no_version_and_no_deadline_without_a_start() {
    let world = World::bare("foreign").await;
    let here = url::Url::parse(&world.superuser()).unwrap();
    world
        .sql(&format!(
            "CREATE EXTENSION postgres_fdw; \
             CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw \
                 OPTIONS (host '{}', port '{}', dbname '{}', keep_connections 'off'); \
             CREATE USER MAPPING FOR PUBLIC SERVER here OPTIONS (user '{}', password '{}', password_required 'false'); \
             {TABLE}; CREATE TABLE far (LIKE job_executions); \
             CREATE FOREIGN TABLE away () INHERITS (job_executions) SERVER here OPTIONS (table_name 'far'); \
             INSERT INTO job_executions VALUES (1, 1, 1, 'running'); INSERT INTO far VALUES (101, 101, 1, 'running')",
            here.host_str().unwrap(),
            here.port().unwrap_or(5432),
            here.path().trim_start_matches('/'),
            here.username(),
            here.password().unwrap_or_default(),
        ))
        .await;
    world.prepare().await;
    let operator = world.operator();
    world.store(json!({})).await;
    let seen = "SELECT count(*) = 2 AND bool_and((detail IS NULL) = (execution_id = '101')) FROM jobexec.observations \
                WHERE kind = 'RunningWithoutStart'";
    world.until_true(seen).await;
    world.sql("UPDATE jobexec.observations SET since = now() - interval '25 hours'").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    look(&world, &operator).await;
    assert_eq!(world.status(101).await, "running", "any writer may have begun another run");
}

#[tokio::test]
async fn what_may_be_another_run_is_never_past_a_deadline() {
    let world = seen_without_a_start("noversion").await;
    world.sql("INSERT INTO job_executions VALUES (3, 3, 1, 'running', now() - interval '25 hours')").await;
    let columns = "id, job_id, execution_number, status, started_at, completed_at";
    world
        .sql(&format!(
            "REVOKE SELECT ON job_executions FROM {0}; GRANT SELECT ({columns}) ON job_executions TO {0}",
            world.role
        ))
        .await;
    let operator = world.operator();
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 3").await;
    let status = world
        .store_until(&operator, |s| is(&s.conditions, "Consistent", "False", "RunningWithoutStartedAt"))
        .await;
    assert!(message(&status.conditions, "Consistent").contains("GRANT SELECT (xmin)"), "{status:?}");
    look(&world, &operator).await;
    assert_eq!(world.one::<String>(ENDED).await, "3 Failed DeadlineExceeded");
    operator.kill();
    world.sql(&format!("GRANT SELECT (xmin) ON job_executions TO {}", world.role)).await;
    let operator = world.operator();
    world
        .until_true("SELECT bool_and(detail IS NOT NULL) FROM jobexec.observations WHERE kind = 'RunningWithoutStart'")
        .await;
    look(&world, &operator).await;
    assert_eq!(world.status(1).await, "running", "its time has only begun");
}

#[tokio::test]
async fn a_start_before_the_creation_counts_from_the_creation_and_is_a_contradiction() {
    let spec = json!({"table": {"columns": {"createdAt": "made"}}});
    let world = World::bare("clocks").await;
    world.sql(&format!("{TABLE}; ALTER TABLE job_executions ADD made timestamptz")).await;
    // The first three claim to have started 25 hours ago.
    world
        .sql(
            "INSERT INTO job_executions VALUES \
             (1, 1, 1, 'running', now() - interval '25 hours', NULL, now() - interval '1 hour'), \
             (2, 2, 1, 'running', now() - interval '25 hours', NULL, now() - interval '26 hours'), \
             (3, 3, 1, 'running', now() - interval '25 hours', NULL, NULL), \
             (4, 4, 1, 'running', now() - interval '2 hours 4 minutes', NULL, now() - interval '2 hours'), \
             (5, 5, 1, 'completed', now() - interval '25 hours', now(), now() - interval '1 hour')",
        )
        .await;
    world.prepare_for(&spec).await;
    world.execution("one", "1", json!({})).await;
    let operator = world.operator();
    world.store(spec.clone()).await;
    let status = world
        .store_until(&operator, |s| is(&s.conditions, "Consistent", "False", "StartedBeforeCreated"))
        .await;
    assert_eq!(status.violations.unwrap().started_before_created, 1);
    assert!(
        message(&status.conditions, "Consistent").contains("1 running that started before they were created")
    );
    world.until_true("SELECT count(*) = 2 FROM job_executions WHERE status = 'failed'").await;
    look(&world, &operator).await;
    assert_eq!(world.one::<String>(ENDED).await, "2 Failed DeadlineExceeded, 3 Failed DeadlineExceeded");
    let file = world.file("store.yaml", &World::store_with("jobs", spec).to_string());
    let explained = String::from_utf8(world.jobexec(&["explain", "1", "-f", &file]).stdout).unwrap();
    assert!(explained.contains("StartedBeforeCreated"), "{explained}");
    // The threshold of a manual clean-up applies to the actual run time, too.
    let dry = world.jobexec(&["cleanup", "-f", &file, "--max-hours", "20", "--dry-run", "-o", "name"]);
    assert_eq!(String::from_utf8(dry.stdout).unwrap(), "");

    // It is ended once its timeout has passed since its creation.
    world.sql("UPDATE job_executions SET made = now() - interval '24 hours' WHERE id = 1").await;
    told(&world, &operator, "one", "DeadlineExceeded", "past its deadline").await;
}
