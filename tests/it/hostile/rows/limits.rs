//! Rows with times, ids and texts beyond all limits, or without an id.

use serde_json::json;

use super::values::NOISE;
use crate::hostile::work::Work;
use crate::support::{World, is, message};

/// The same with the real operator: the two rows that stopped a table, and the reports about them.
#[tokio::test]
async fn a_year_and_an_id_beyond_all_limits_stop_no_table() {
    let world = World::bare("poison").await;
    world
        .sql(
            "CREATE TABLE job_executions (id text PRIMARY KEY, job_id bigint, execution_number integer, status text, \
             started_at timestamp, completed_at timestamp)",
        )
        .await;
    let spec = json!({"table": {"timeZone": "America/Los_Angeles"}, "executionObjects": {"enabled": true}});
    world.prepare_for(&spec).await;
    world
        .sql(&format!(
            "INSERT INTO job_executions VALUES ('year', 1, 1, 'running', '294276-12-31 23:59:59'), \
             (left({NOISE}, 2690), 1, 2, 'running', '2020-01-01'), ('stale', 1, 3, 'running', '2020-01-01'), \
             ('live', 1, 4, 'running', now() AT TIME ZONE 'America/Los_Angeles')"
        ))
        .await;
    // Careless statements fail on them.
    for careless in [
        "SELECT max(started_at AT TIME ZONE 'America/Los_Angeles') FROM job_executions",
        "INSERT INTO jobexec.events (at, store_id, execution_id, action, reason, source) \
         SELECT now(), 1, id, 'Failed', 'x', 'x' FROM job_executions",
    ] {
        sqlx::query(careless).fetch_all(&world.pool).await.expect_err(careless);
    }
    let operator = world.operator();
    world.store(spec).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 'stale'").await;
    let status = world
        .store_until(&operator, |s| {
            s.violations.as_ref().is_some_and(|v| v.id_too_long == 1)
                && s.execution_objects.as_ref().is_some_and(|objects| objects.objects >= 2)
        })
        .await;
    assert!(is(&status.conditions, "Ready", "True", "Enforcing"), "{status:?}");
    assert!(is(&status.conditions, "Consistent", "False", "StartedInFuture"), "{status:?}");
    assert!(message(&status.conditions, "Consistent").contains("more than 1000 bytes"), "{status:?}");
    assert_eq!(status.metrics.unwrap().stale_executions, 0, "what is left alone is not waited for");
    let running = "SELECT string_agg(left(id, 4), ' ' ORDER BY started_at) FROM job_executions WHERE status = 'running'";
    assert!(world.one::<String>(running).await.ends_with(" live year"));
    let file = world.file(
        "poison.yaml",
        &World::store_with("jobs", json!({"table": {"timeZone": "America/Los_Angeles"}})).to_string(),
    );
    for command in [
        &["list"][..],
        &["list", "--all"],
        &["health"],
        &["explain", "year"],
        &["cleanup", "--dry-run"],
        &["cleanup", "--max-hours", "1", "--dry-run"],
        &["stats"],
    ] {
        let mut args = command.to_vec();
        args.extend(["-f", &file]);
        let output = world.jobexec(&args);
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let log = operator.log();
    assert!(!log.contains("out of range") && !log.contains("index row"), "{log}");
}

/// A unique column may be NULL. A row without an id cannot be reported, and delays nothing.
#[tokio::test]
async fn a_row_without_an_id_is_left_alone_and_counted() {
    for id in ["bigint", "text"] {
        let world = World::bare(&format!("no-{id}")).await;
        world
            .sql(&format!(
                "CREATE TABLE job_executions (id {id} UNIQUE, job_id bigint, execution_number integer, status text, \
                 started_at timestamptz, completed_at timestamptz)"
            ))
            .await;
        world.prepare_for(&json!({})).await;
        let insert = "INSERT INTO job_executions VALUES (NULL, 1, 1, 'running', '2020-01-01'), (1, 1, 2, 'running', '2020-01-02')";
        world.sql(insert).await;
        let work = Work::open(&world, &json!({}), "1", "none").await.unwrap();
        work.look().await.unwrap();
        assert_eq!(work.sweep().await.unwrap().ended, 1, "{id}");
        assert_eq!(work.sweep().await.unwrap().ended, 0, "{id}");
        work.answers(&["1".to_owned()], "1").await.unwrap();
        assert_eq!(work.contradictions().await.unwrap().id_too_long, 1, "{id}");
        assert_eq!(
            world
                .one::<String>("SELECT string_agg(status, ' ' ORDER BY started_at) FROM job_executions")
                .await,
            "running failed",
            "{id}"
        );
    }
}

/// The server cuts texts of 20 MB wherever one is read or recorded.
#[tokio::test]
async fn long_texts_are_cut_before_they_are_read() {
    let world = World::bare("long-texts").await;
    world
        .sql(
            "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id text, execution_number integer, status text, \
             started_at timestamptz, completed_at timestamptz, job_type text, workload text, owner text); \
             INSERT INTO job_executions SELECT n, repeat('j', 20000000), n, CASE WHEN n < 5 THEN 'running' ELSE repeat('s', 20000000) END, \
             now() - interval '1 day' * n, NULL, repeat('t', 20000000), repeat('w', 20000000), repeat('o', 20000000) \
             FROM generate_series(0, 5) AS n",
        )
        .await;
    let spec = json!({"table": {"columns": {"jobType": "job_type", "workload": "workload", "owner": "owner"}},
                      "workloads": {"gracePeriod": "1h"}});
    // The columns are too long for the indexes that a table may have.
    let role = &world.role;
    world.sql(&format!("GRANT SELECT, UPDATE ON job_executions TO {role}")).await;
    let applied = world.jobexec(&["schema", "--apply", "--role", role]);
    assert!(
        !applied.status.success()
            || world.one::<bool>("SELECT to_regclass('jobexec.events') IS NOT NULL").await
    );
    let work = Work::open(&world, &spec, "job", "etl").await.unwrap();
    work.look().await.unwrap();
    assert_eq!(work.sweep().await.unwrap().ended, 4);
    work.look().await.unwrap();
    let ids: Vec<String> = (0..6).map(|id| id.to_string()).collect();
    work.answers(&ids, "job").await.unwrap();
    let texts = work.texts(&ids).await.unwrap();
    assert_eq!(texts.len(), 6 * 3 * 2, "of a list and of an explanation: a job, a type and a status");
    let longest = texts.iter().map(|text| text.chars().count()).max();
    assert_eq!(longest, Some(256));
    let recorded = "SELECT max(octet_length(job_id)) FROM jobexec.events";
    assert_eq!(world.one::<i32>(recorded).await, 256);
}
