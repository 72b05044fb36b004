//! Executions without a start, or with one before their creation: what their time counts from.

use serde_json::json;

use super::{ENDED, look, told};
use crate::support::world::TABLE;
use crate::support::{World, is, message};

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
