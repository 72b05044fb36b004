//! The server is killed, full, out of connections or slow, or it rolls a batch back.

use serde_json::json;

use super::{all_failed_once, enforces, left, stale, trigger};
use crate::support::machine::Part;
use crate::support::{World, blocking, is, machine, message};

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
