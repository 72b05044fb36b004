//! Rows with unusual times, and many rows of one job that began at once.

use jobexec_operator::api::JobExecutionStatus;
use serde_json::json;

use super::all_failed_once;
use crate::support::{World, is};

#[tokio::test]
async fn rows_that_cannot_be_true_and_timeouts_at_their_limits_stall_nothing() {
    let world = World::new("untrue").await;
    world
        .sql(
            "INSERT INTO job_executions VALUES (1, 1, 1, 'running', NULL, NULL), (2, 1, 2, 'running', 'infinity', NULL), \
             (3, 1, 3, 'running', '-infinity', NULL), (4, 1, 4, 'running', '9999-12-31', NULL), \
             (5, 1, 5, 'running', now() + interval '1 hour', NULL), (6, 1, 6, 'running', '294276-12-31', NULL), \
             (7, 1, 7, 'running', now() - interval '2 days', NULL), \
             (8, 1, 8, 'running', now() - interval '1 hour', now() - interval '2 hours'), \
             (9, 1, 9, 'completed', now(), now() - interval '1 day'), (10, 1, 10, 'failed', 'infinity', '-infinity')",
        )
        .await;
    let untouched =
        "SELECT string_agg(t::text, ' ' ORDER BY id) FROM job_executions t WHERE id NOT IN (3, 7)";
    let before: String = world.one(untouched).await;
    let longest = "99999h99999h99999h99999h";
    for (id, timeout) in
        [(1, "1h"), (2, "1ms"), (3, "1h"), (4, longest), (5, "1ms"), (6, longest), (9, "1ms"), (10, "1ms")]
    {
        world.execution(&format!("e{id}"), &id.to_string(), json!({"timeout": timeout})).await;
    }
    let operator = world.operator();
    world.store(json!({})).await;
    world
        .until_true("SELECT count(*) = 2 FROM job_executions WHERE id IN (3, 7) AND status = 'failed'")
        .await;
    // The first one counts from when it was observed running.
    for id in [1, 2, 4, 5, 6] {
        let deadline = |s: &JobExecutionStatus| {
            is(&s.conditions, "Finished", "False", "Running") && s.deadline.is_some()
        };
        world.execution_until(&operator, &format!("e{id}"), deadline).await;
    }
    for (id, reason) in [(3, "Failed"), (9, "Completed"), (10, "Failed")] {
        let finished = |s: &JobExecutionStatus| is(&s.conditions, "Finished", "True", reason);
        world.execution_until(&operator, &format!("e{id}"), finished).await;
    }

    // Enforcement continues.
    world.sql("INSERT INTO job_executions VALUES (20, 1, 20, 'running', now() - interval '2 days')").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 20").await;
    world.sql("DELETE FROM job_executions WHERE id = 20").await;
    assert_eq!(world.one::<String>(untouched).await, before);
    assert!(!operator.log().contains("panicked"), "{}", operator.log());
}

#[tokio::test]
async fn local_times_are_read_in_the_zone_of_the_spec_and_never_too_early() {
    let world = World::bare("zones").await;
    world.sql(&crate::support::world::TABLE.replace("timestamptz", "timestamp")).await;
    world.prepare().await;
    // The session's time zone is neither that of the spec nor UTC, and far from both.
    world.sql(&format!("ALTER ROLE {} SET timezone = 'Pacific/Kiritimati'", world.role)).await;
    // Berlin set its clocks back on 2025-10-26 at 01:00 UTC, so that 02:30 occurred at 00:30 and at 01:30, and forward on
    // 2025-03-30, so that 02:30 did not occur; the latest reading of it is 01:30. The timeout lies between the two
    // readings.
    for (clock_change, id) in [("2025-10-26 01:00Z", 1), ("2025-03-30 01:00Z", 2)] {
        world.sql("TRUNCATE job_executions").await;
        let seconds: i64 = world
            .one(&format!("SELECT extract(epoch FROM now() - '{clock_change}'::timestamptz)::bigint"))
            .await;
        let timeout = format!("{}h{}s", seconds / 3600, seconds % 3600);
        let spec = json!({"defaultTimeout": timeout, "table": {"timeZone": "Europe/Berlin"}});
        // The spec comes before the rows and the operator, so that the timeout of the previous round is not in effect.
        world.store(spec).await;
        let row = |id: i64, start: &str| {
            format!("INSERT INTO job_executions VALUES ({id}, 1, {id}, 'running', {start})")
        };
        world.sql(&row(1, "'2025-10-26 02:30'")).await;
        world.sql(&row(2, "'2025-03-30 02:30'")).await;
        // Two unambiguous times, as close as possible to the deadline on either side.
        let beside = |shift: &str| {
            format!("('{clock_change}'::timestamptz + interval '{shift}') AT TIME ZONE 'Europe/Berlin'")
        };
        world.sql(&row(3, &beside("-61 minutes"))).await;
        world.sql(&row(4, &beside("61 minutes"))).await;
        let operator = world.operator();
        world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 3").await;
        world.request_sweep(&operator).await;
        let rows: String =
            world.one("SELECT string_agg(id || ' ' || status, ', ' ORDER BY id) FROM job_executions").await;
        let expected = if id == 1 {
            "1 running, 2 failed, 3 failed, 4 running"
        } else {
            "1 running, 2 running, 3 failed, 4 running"
        };
        assert_eq!(rows, expected, "{clock_change}");
        let local: bool = world
            .one("SELECT abs(extract(epoch FROM completed_at - now() AT TIME ZONE 'Europe/Berlin')) < 600 FROM job_executions WHERE id = 3")
            .await;
        assert!(local, "the end is written in the zone of the spec too");
        assert!(operator.stop().success());
    }
}

#[tokio::test]
async fn ten_thousand_executions_of_one_job_that_began_at_once_are_failed_once_each() {
    let world = World::new("onejob").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '2 days' FROM generate_series(1, 10000) n",
        )
        .await;
    let operator = world.operator();
    world.store(json!({})).await;
    all_failed_once(&world, &operator, 10_000).await;
    // Other executions of the job do not matter.
    world.sql("INSERT INTO job_executions VALUES (20000, 1, 20000, 'running', now())").await;
    world.request_sweep(&operator).await;
    assert_eq!(world.status(20_000).await, "running");
}
