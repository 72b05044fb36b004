//! Faults of the operator's own tables: they affect no execution, prevent no action, and are reported with their remedy.

use std::process::Command;

use jobexec_operator::api::ExecutionStoreStatus;
use serde_json::json;

use crate::support::{World, is, message};

fn records(status: &ExecutionStoreStatus) -> bool {
    is(&status.conditions, "AuditAvailable", "True", "TablesPresent")
}

fn refuses(status: &ExecutionStoreStatus, reason: &str) -> bool {
    is(&status.conditions, "Ready", "True", "Enforcing")
        && is(&status.conditions, "EnforcementPaused", "False", "Enforcing")
        && is(&status.conditions, "AuditAvailable", "False", reason)
}

/// A row that began this long ago.
fn running(id: i64, age: &str) -> String {
    format!("INSERT INTO job_executions VALUES ({id}, 1, {id}, 'running', now() - interval '{age}')")
}

/// Inserts this many records of the store, and resets the sequences, as logical replication leaves them.
async fn moved(world: &World, records: i64) {
    world
        .sql(&format!(
            "INSERT INTO jobexec.events (at, store_id, execution_id, action, reason, source)
             SELECT now(), s.store_id, 'old', 'Failed', 'DeadlineExceeded', 'x'
             FROM jobexec.stores AS s, generate_series(1, {records});
             SELECT setval(pg_get_serial_sequence('jobexec.events', 'event_id'), 1, false);
             SELECT setval(pg_get_serial_sequence('jobexec.stores', 'store_id'), 1, false)"
        ))
        .await;
}

/// The statement that the condition recommends.
fn remedy(status: &ExecutionStoreStatus) -> String {
    let text = message(&status.conditions, "AuditAvailable");
    text.split('`').nth(1).unwrap_or_else(|| panic!("no statement in {text:?}")).to_owned()
}

#[tokio::test]
async fn a_sequence_that_is_behind_keeps_no_execution_from_being_ended() {
    let world = World::new("behind").await;
    world.sql(&running(4, "2 days")).await;
    world.execution("slow", "4", json!({"timeout": "72h"})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, records).await;
    moved(&world, 5_000).await;
    world.sql(&running(1, "2 days")).await;
    let told = world.store_until(&operator, |s| refuses(s, "SequenceBehind")).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    let text = message(&told.conditions, "AuditAvailable");
    assert!(text.contains("executions are ended all the same") && text.contains("jobexec.events"), "{text}");
    // An Event is the only report of it.
    world.event_until(&operator, "jobs", "StaleExecutionsFailed").await;

    // Requests take effect and are carried out, even without a record.
    world.sql(&running(2, "30 hours")).await;
    world.execution("called-off", "3", json!({"timeout": "48h", "cancel": true})).await;
    world.sql(&running(3, "1 hour")).await;
    world.until_true("SELECT status = 'cancelled' FROM job_executions WHERE id = 3").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
    assert_eq!(world.status(4).await, "running", "its timeout counts");

    world.sql(&remedy(&told)).await;
    world.store_until(&operator, records).await;
    world.sql(&running(5, "2 days")).await;
    world.until_true("SELECT count(*) = 1 FROM jobexec.events WHERE execution_id = '5'").await;
}

#[tokio::test]
async fn a_sequence_that_is_behind_is_set_where_the_login_may() {
    let world = World::that_may_create("mended").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, records).await;
    moved(&world, 5_000).await;
    world.sql(&running(1, "2 days")).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    let (recorded, number): (i64, i64) = (
        world.one("SELECT count(*) FROM jobexec.events WHERE execution_id = '1'").await,
        world.one("SELECT max(event_id) FROM jobexec.events").await,
    );
    assert_eq!((recorded, number > 5_000), (1, true), "recorded with the first number that is free");
}

#[tokio::test]
async fn a_record_that_is_refused_is_no_fault_of_the_execution() {
    let world = World::new("norecord").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, records).await;
    // The error of the first one names the table, that of the second does not.
    let restrictions = [
        ("ADD CONSTRAINT shut CHECK (event_id < 0) NOT VALID", "DROP CONSTRAINT shut"),
        (
            "ALTER event_id SET MAXVALUE 9 SET START 9 SET INCREMENT 1 RESTART WITH 9",
            "ALTER event_id SET NO MAXVALUE",
        ),
    ];
    for (id, (shut, open)) in (10..).step_by(10).zip(restrictions) {
        world.sql(&format!("ALTER TABLE jobexec.events {shut}")).await;
        // The second restriction still allows one record.
        for row in [id, id + 1] {
            world.sql(&running(row, "2 days")).await;
            world.until_true(&format!("SELECT status = 'failed' FROM job_executions WHERE id = {row}")).await;
        }
        let told = world.store_until(&operator, |s| refuses(s, "RecordRefused")).await;
        assert!(
            message(&told.conditions, "AuditAvailable").contains("jobexec.events takes no record"),
            "{shut}"
        );
        world.sql(&format!("ALTER TABLE jobexec.events {open}")).await;
        world.store_until(&operator, records).await;
    }
}

#[tokio::test]
async fn a_table_gets_the_first_number_that_is_free() {
    let world = World::new("numbers").await;
    world
        .sql(
            "INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name)
             SELECT 'jobexec.stores'::regclass, 1000000 + n, 'public', n FROM generate_series(1, 200) AS n;
             SELECT setval(pg_get_serial_sequence('jobexec.stores', 'store_id'), 1, false)",
        )
        .await;
    world.sql(&running(1, "2 days")).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, records).await;
    world
        .until_true("SELECT count(*) = 1 FROM jobexec.events WHERE execution_id = '1' AND store_id > 200")
        .await;
}

#[tokio::test]
async fn a_person_is_told_what_was_done_without_a_record() {
    let world = World::new("bare-hand").await;
    // With exactly the permissions of the operator's role.
    let args = |command: &[&'static str]| {
        let mut jobexec = Command::new(env!("CARGO_BIN_EXE_jobexec"));
        let output = jobexec
            .args(command)
            .args(["--table", "public.job_executions"])
            .env("DATABASE_URL", world.url("right/password"))
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.success(), text)
    };
    world.sql(&running(1, "1 hour")).await;
    let (ok, text) = args(&["extend", "1", "--by", "1h"]);
    assert!(ok && !text.contains("not recorded"), "{text}");
    moved(&world, 100).await;
    for (id, command) in
        [(2, &["cleanup", "--yes"][..]), (3, &["cancel", "3"][..]), (4, &["extend", "4", "--by", "2h"][..])]
    {
        world.sql(&running(id, if id == 2 { "2 days" } else { "1 hour" })).await;
        let (ok, text) = args(command);
        assert!(ok && text.contains("done, but not recorded: jobexec.events gives out numbers"), "{text}");
    }
    assert_eq!(world.status(2).await, "failed");
    assert_eq!(world.status(3).await, "cancelled");
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.rules WHERE key = '4'").await, 1);
    assert_eq!(
        world.one::<i64>("SELECT count(*) FROM jobexec.events WHERE execution_id IN ('2', '3', '4')").await,
        0
    );
}
