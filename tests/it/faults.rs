//! Failures of Postgres during a sweep, and invalid rows: no work is lost or repeated, no execution is failed too early,
//! and the status reports the problem as long as it lasts.

use jobexec_operator::api::{ExecutionStoreStatus, JobExecutionStatus};
use serde_json::json;

use crate::support::machine::Part;
use crate::support::{Operator, World, blocking, is, machine, message};

/// Inserts this many stale rows of one job, the oldest first.
fn stale(count: i64) -> String {
    format!(
        "INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '9 days' + n * interval '1 second' \
         FROM generate_series(1, {count}) n"
    )
}

/// A trigger function `bites` with this body, called before the update of rows that match `when`.
fn trigger(when: &str, body: &str) -> String {
    format!(
        "CREATE FUNCTION bites() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NEW; END $$; \
         CREATE TRIGGER bites BEFORE UPDATE ON job_executions FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION bites()"
    )
}

fn enforces(status: &ExecutionStoreStatus) -> bool {
    is(&status.conditions, "Ready", "True", "Enforcing")
}

fn left(status: &ExecutionStoreStatus, count: i64) -> bool {
    status.metrics.as_ref().is_some_and(|m| m.stale_executions == count)
}

/// Waits until all rows are failed, and checks that each was failed and recorded once.
async fn all_failed_once(world: &World, operator: &Operator, count: i64) {
    world.until_true("SELECT count(*) = 0 FROM job_executions WHERE status = 'running'").await;
    world.store_until(operator, |s| enforces(s) && left(s, 0)).await;
    let counts: String = world
        .one(
            "SELECT concat_ws(' ', (SELECT count(*) FROM job_executions WHERE status = 'failed'), count(*), \
             count(DISTINCT execution_id), (SELECT sum(failed) FROM jobexec.sweeps)) FROM jobexec.events WHERE action = 'Failed'",
        )
        .await;
    assert_eq!(counts, format!("{count} {count} {count} {count}"), "{}", operator.log());
}

#[tokio::test]
async fn a_server_killed_in_the_middle_of_a_sweep_loses_and_doubles_nothing() {
    let server = blocking(|| devcluster::Server::start(&[])).await;
    let world = World::on_server("killed", &server).await;
    world.sql(&stale(12_000)).await;
    // The sweep waits in its second or third batch, with some rows failed and others about to be.
    world.sql(&trigger("OLD.id = 7500", "PERFORM pg_advisory_xact_lock(7)")).await;
    let mut holder = world.pool.acquire().await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(7)").execute(&mut *holder).await.unwrap();
    let operator = world.operator();
    world.store(json!({})).await;
    world
        .until_true("SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)")
        .await;
    world.until_true("SELECT count(*) >= 5000 FROM job_executions WHERE status = 'failed'").await;

    let mut server = blocking(move || {
        let mut server = server;
        server.kill();
        Ok::<_, devcluster::Error>(server)
    })
    .await;
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "DatabaseReachable", "False", "ConnectionFailed")
                && is(&s.conditions, "Ready", "False", "ConnectionFailed")
        })
        .await;
    assert!(message(&status.conditions, "Ready").contains("that the server is up"));
    assert!(
        is(&status.conditions, "EnforcementPaused", "Unknown", "NotObserved"),
        "{:#?}",
        status.conditions
    );
    drop(holder);
    let _server = blocking(move || server.restart().map(|()| server)).await;
    all_failed_once(&world, &operator, 12_000).await;
    // Each sweep that failed something is announced, even the one that was interrupted, but only once it has certainly
    // ended.
    assert_eq!(
        world.event_until(&operator, "jobs", "StaleExecutionsFailed").await.matches("failed").count(),
        1
    );
}

#[tokio::test]
async fn sessions_ended_again_and_again_lose_and_double_nothing() {
    let world = World::new("ended").await;
    world.sql(&stale(50_000)).await;
    // Each batch takes a while, so that it can be interrupted.
    world.sql(&trigger("OLD.id % 5000 = 0", "PERFORM pg_sleep(0.2)")).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let at_work =
        format!("usename = '{}' AND state = 'active' AND query LIKE '%UPDATE %job_executions%'", world.role);
    for _ in 1..=6 {
        let ended = "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE";
        world.until_true(&format!("{ended} {at_work}")).await;
    }
    world.sql("DROP TRIGGER bites ON job_executions").await;
    all_failed_once(&world, &operator, 50_000).await;
}

#[tokio::test]
async fn no_connection_left_is_told_and_mended() {
    let world = World::new("exhausted").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, enforces).await;
    world.sql(&format!("ALTER ROLE {} CONNECTION LIMIT 0", world.role)).await;
    world.terminate().await;
    world.sql(&stale(1)).await;
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "DatabaseReachable", "False", "ServerExhausted")
                && is(&s.conditions, "Ready", "False", "ServerExhausted")
        })
        .await;
    let text = message(&status.conditions, "Ready");
    assert!(text.contains("too many connections") && text.contains("poolSize"), "{text}");
    assert_eq!(world.status(1).await, "running");
    world.sql(&format!("ALTER ROLE {} CONNECTION LIMIT -1", world.role)).await;
    all_failed_once(&world, &operator, 1).await;
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_nothing_half_done() {
    let disk = tempfile::tempdir().unwrap();
    if !machine::may_mount(disk.path()) {
        return machine::not_tested(
            "a full disk",
            Part::Other("root, and the right to mount a small file system"),
        );
    }
    // Mounted for the server only, and gone with it.
    let mount = "mount -t tmpfs -o size=3m,mode=1777 tmpfs \"$0\" && exec \"$@\"";
    let disk_path = disk.path().to_str().unwrap().to_owned();
    let wrapper = ["unshare", "--mount", "sh", "-c", mount, &disk_path].map(std::ffi::OsString::from);
    let server = blocking(move || devcluster::Server::start(&wrapper)).await;
    let world = World::on_server("disk", &server).await;
    world.sql(&format!("COPY (SELECT) TO PROGRAM 'mkdir {disk_path}/space'")).await;
    world.sql(&format!("CREATE TABLESPACE small LOCATION '{disk_path}/space'")).await;
    world.sql("ALTER TABLE job_executions SET TABLESPACE small").await;
    // The rows take more than half of the disk, so there is no space for a new version of each.
    world.sql(&stale(24_000)).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "EnforcementPaused", "True", "DiskFull")
                && is(&s.conditions, "Ready", "False", "DiskFull")
        })
        .await;
    let text = message(&status.conditions, "Ready");
    assert!(text.contains("No space left on device") && text.contains("Make room"), "{text}");
    assert!(is(&status.conditions, "DatabaseReachable", "True", "Connected"), "{:#?}", status.conditions);
    let whole: bool = world
        .one(
            "SELECT count(*) FILTER (WHERE status = 'running') > 0 AND count(*) = 24000 \
             AND count(*) FILTER (WHERE status = 'failed') = (SELECT count(DISTINCT execution_id) FROM jobexec.events) \
             AND bool_and((status = 'failed') = (completed_at IS NOT NULL)) FROM job_executions",
        )
        .await;
    assert!(whole, "what was failed is recorded, and what was not failed is as it was");

    world.sql("ALTER TABLE job_executions SET TABLESPACE pg_default").await;
    all_failed_once(&world, &operator, 24_000).await;
}

#[tokio::test]
async fn a_deadlock_and_serialization_failures_are_tried_again() {
    let world = World::new("deadlock").await;
    // The operator sets the isolation level that it is made for, whatever the default of the role is.
    world.sql(&format!("ALTER ROLE {} SET default_transaction_isolation = 'serializable'", world.role)).await;
    world
        .sql("CREATE TABLE jobs (id bigint PRIMARY KEY, failures bigint, isolation text); INSERT INTO jobs VALUES (1, 0)")
        .await;
    world
        .sql(
            "CREATE SEQUENCE conflicts; CREATE FUNCTION tally() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
             IF NEW.id = 3 AND nextval('conflicts') <= 2 THEN RAISE 'not serializable' USING ERRCODE = '40001'; END IF; \
             UPDATE jobs SET failures = failures + 1, isolation = current_setting('transaction_isolation') WHERE id = NEW.job_id; RETURN NEW; END $$; \
             CREATE TRIGGER tally BEFORE UPDATE ON job_executions FOR EACH ROW WHEN (NEW.status = 'failed') EXECUTE FUNCTION tally()",
        )
        .await;
    world.sql(&stale(3)).await;
    // A worker locks the row of the job and then needs that of the execution, which the sweep holds while it waits for
    // the job.
    let mut worker = world.pool.begin().await.unwrap();
    sqlx::raw_sql("SET LOCAL deadlock_timeout = '1h'; UPDATE jobs SET failures = 0")
        .execute(&mut *worker)
        .await
        .unwrap();
    let operator = world.operator();
    world.store(json!({})).await;
    world
        .until_true(&format!(
            "SELECT EXISTS (SELECT FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) \
             WHERE NOT l.granted AND a.usename = '{}')",
            world.role
        ))
        .await;
    let finish = "UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 1";
    sqlx::raw_sql(finish).execute(&mut *worker).await.unwrap();
    worker.commit().await.unwrap();
    world.until_true("SELECT count(*) = 0 FROM job_executions WHERE status = 'running'").await;
    world.store_until(&operator, |s| enforces(s) && left(s, 0)).await;
    let end: String = world
        .one(
            "SELECT concat_ws(' ', (SELECT string_agg(status, ' ' ORDER BY id) FROM job_executions), \
             (SELECT string_agg(execution_id, ',' ORDER BY execution_id) FROM jobexec.events), (SELECT failures || ' ' || isolation FROM jobs))",
        )
        .await;
    assert_eq!(end, "completed failed failed 2,3 2 read committed");
    let log = operator.log();
    assert!(log.contains("deadlock detected") && log.contains("not serializable"), "{log}");
    assert!(!log.contains("a look at the store failed"), "what is worth another try is no news: {log}");
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_told_and_mended() {
    let world = World::new("slow").await;
    world.sql(&stale(2)).await;
    world.sql(&trigger("OLD.id = 2", "PERFORM pg_sleep(60)")).await;
    let operator = world.operator();
    world.store(json!({"connection": {"statementTimeout": "1s"}})).await;
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "EnforcementPaused", "True", "StatementTimeout")
                && is(&s.conditions, "Ready", "False", "StatementTimeout")
        })
        .await;
    assert!(message(&status.conditions, "Ready").contains("spec.connection.statementTimeout"));
    assert!(is(&status.conditions, "DatabaseReachable", "True", "Connected"), "{:#?}", status.conditions);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM job_executions WHERE status = 'running'").await, 2);
    world.sql("DROP TRIGGER bites ON job_executions").await;
    all_failed_once(&world, &operator, 2).await;
}

#[tokio::test]
async fn a_row_that_cannot_be_failed_holds_up_no_other() {
    let world = World::new("poisoned").await;
    world.sql(&stale(12_000)).await;
    // One row is refused for each of these: a constraint, a trigger that raises, one that divides by zero, one that lacks
    // a permission.
    world
        .sql(
            "ALTER TABLE job_executions ADD CONSTRAINT never CHECK (id <> 1 OR status <> 'failed'); CREATE TABLE secret (id bigint)",
        )
        .await;
    world
        .sql(&trigger(
            "OLD.id IN (2, 6000, 11999)",
            "CASE OLD.id WHEN 2 THEN RAISE 'row 2 is mine'; WHEN 6000 THEN PERFORM 1 / 0; ELSE INSERT INTO secret VALUES (1); END CASE",
        ))
        .await;
    world.execution("e", "1", json!({"timeout": "1h"})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "EnforcementPaused", "True", "ExecutionsRefused") && left(s, 4)
        })
        .await;
    assert!(is(&status.conditions, "Ready", "False", "ExecutionsRefused"));
    assert!(is(&status.conditions, "DatabaseReachable", "True", "Connected"));
    let text = message(&status.conditions, "EnforcementPaused");
    for part in [
        "\"never\"",
        "2: ",
        "row 2 is mine",
        "6000: ",
        "division by zero",
        "11999: ",
        "permission denied for table secret",
    ] {
        assert!(text.contains(part), "{part} not in {text}");
    }
    let counts: String = world
        .one(
            "SELECT concat_ws(' ', (SELECT string_agg(id::text, ',' ORDER BY id) FROM job_executions WHERE status = 'running'), \
             count(*), count(DISTINCT execution_id)) FROM jobexec.events WHERE action = 'Failed'",
        )
        .await;
    assert_eq!(counts, "1,2,6000,11999 11996 11996");
    assert!(operator.log().contains("a stale execution cannot be ended"));

    // Rows that become stale later are failed too, and the refused ones once the obstacles are gone.
    world.sql("INSERT INTO job_executions VALUES (20000, 1, 1, 'running', now() - interval '2 days')").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 20000").await;
    world.sql("DROP TRIGGER bites ON job_executions; ALTER TABLE job_executions DROP CONSTRAINT never").await;
    // Does not wait for the next retry.
    world.request_sweep(&operator).await;
    all_failed_once(&world, &operator, 12_001).await;
    world
        .execution_until(&operator, "e", |s| is(&s.conditions, "Succeeded", "False", "DeadlineExceeded"))
        .await;
}

#[tokio::test]
async fn a_block_of_rows_that_cannot_be_failed_starves_no_other() {
    let world = World::new("block").await;
    // The oldest 6,000, more than a batch, cannot be failed. So many are narrowed down only to hundreds, from either end.
    world.sql(&stale(12_000)).await;
    world
        .sql("UPDATE job_executions SET job_id = -1 WHERE id IN (SELECT id FROM job_executions ORDER BY started_at LIMIT 6000)")
        .await;
    world.sql(&trigger("NEW.status = 'failed' AND NEW.job_id = -1", "RAISE 'not these'")).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "EnforcementPaused", "True", "ExecutionsRefused")
                && s.metrics.as_ref().is_some_and(|m| m.running_executions < 6_200)
        })
        .await;
    let text = message(&status.conditions, "EnforcementPaused");
    assert!(text.contains("not these") && text.ends_with(" more"), "{text}");
    let bad: i64 =
        world.one("SELECT count(*) FROM job_executions WHERE status = 'failed' AND job_id = -1").await;
    assert_eq!(bad, 0);
    // Right behind the block, where it is in one batch with others.
    world.sql("INSERT INTO job_executions SELECT 20000, 1, 1, 'running', max(started_at) FROM job_executions WHERE job_id = -1").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 20000").await;
    world.sql("DROP TRIGGER bites ON job_executions").await;
    // Does not wait for the next retry.
    world.request_sweep(&operator).await;
    all_failed_once(&world, &operator, 12_001).await;
}

#[tokio::test]
async fn a_row_that_a_trigger_leaves_running_is_not_taken_for_failed() {
    let world = World::new("swallow").await;
    world.sql(&stale(12_000)).await;
    world
        .sql("UPDATE job_executions SET job_id = CASE WHEN id <= 5500 THEN -1 ELSE -2 END WHERE id <= 6000")
        .await;
    world
        .sql(&trigger(
            "NEW.status = 'failed' AND NEW.job_id < 0",
            "IF NEW.job_id = -1 THEN RETURN NULL; END IF; NEW := OLD",
        ))
        .await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "EnforcementPaused", "True", "ExecutionsRefused")
                && s.metrics.as_ref().is_some_and(|m| m.running_executions == 6_000)
        })
        .await;
    let text = message(&status.conditions, "EnforcementPaused");
    assert!(
        text.contains("a trigger of the table leaves it running") && text.ends_with("and 5995 more"),
        "{text}"
    );
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.events").await, 6_000);
    world.sql("DROP TRIGGER bites ON job_executions").await;
    // Does not wait for the next retry.
    world.request_sweep(&operator).await;
    all_failed_once(&world, &operator, 12_000).await;
}

#[tokio::test]
async fn a_table_that_refuses_every_row_is_told_and_not_hammered() {
    let world = World::new("refusing").await;
    world.sql(&stale(2_000)).await;
    world.sql(&format!("CREATE SEQUENCE tries; GRANT USAGE ON tries TO {}", world.role)).await;
    world.sql(&trigger("NEW.status = 'failed'", "PERFORM nextval('tries'); RAISE 'nobody fails here'")).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "EnforcementPaused", "True", "ExecutionsRefused")
                && is(&s.conditions, "Ready", "False", "ExecutionsRefused")
        })
        .await;
    assert!(message(&status.conditions, "Ready").contains("nobody fails here"), "{:#?}", status.conditions);
    let tries: i64 = world.one("SELECT last_value FROM tries").await;
    assert!(
        tries < 2_000,
        "{tries} tries: it does not look for one row that is not refused among all of them"
    );
    world.sql("DROP TRIGGER bites ON job_executions").await;
    // Does not wait for the next retry.
    world.request_sweep(&operator).await;
    all_failed_once(&world, &operator, 2_000).await;
}

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
