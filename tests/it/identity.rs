//! The oid identifies a table of executions, and its name after a restore or a rebuild: granted time is not lost, and no
//! execution is ended on a guess about which record applies.

use serde_json::json;

use crate::support::world::TABLE;
use crate::support::{Operator, World, is, message};

/// An execution that was given more time, and one of the same age.
const TWO: &str = "INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '20 hours'), \
     (2, 1, 2, 'running', now() - interval '20 hours')";

/// Both are past their timeout, and one of them would be without the time that it was given.
pub(crate) const LATER: &str = "UPDATE job_executions SET started_at = now() - interval '30 hours'";

pub(crate) fn run(world: &World, args: &[&str]) -> String {
    let login = world.url("right/password");
    let ran = world.jobexec(&[args, &["--database-url", &login]].concat());
    format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr))
}

/// Creates a store with both, whose operator knows about the granted time.
pub(crate) async fn granted(test: &str) -> (World, Operator) {
    let world = World::new(test).await;
    world.sql(TWO).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    let told = run(&world, &["extend", "1", "--by", "48h"]);
    assert!(told.contains("execution 1 is extended by 2d"), "{told}");
    (world, operator)
}

/// Builds the table again beside the old one, under its name.
pub(crate) async fn rebuild(world: &World) {
    world
        .sql(
            "ALTER TABLE job_executions RENAME TO job_executions_old; \
             CREATE TABLE job_executions (LIKE job_executions_old INCLUDING ALL); \
             INSERT INTO job_executions SELECT * FROM job_executions_old",
        )
        .await;
    world.prepare_for(&json!({})).await;
}

pub(crate) async fn only_the_granted_one_lives(world: &World) {
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
    assert_eq!(world.status(1).await, "running");
}

#[tokio::test]
async fn a_table_that_is_renamed_keeps_what_people_granted() {
    let (world, operator) = granted("renamed").await;
    world.sql("ALTER TABLE job_executions RENAME TO runs").await;
    world.store_changed(&operator, json!({"table": {"name": "runs"}})).await;
    world.store_until(&operator, |s| is(&s.conditions, "AuditAvailable", "True", "TablesPresent")).await;
    world.sql(&LATER.replace("job_executions", "runs")).await;
    world.until_true("SELECT status = 'failed' FROM runs WHERE id = 2").await;
    assert_eq!(world.one::<String>("SELECT status FROM runs WHERE id = 1").await, "running");
    assert_eq!(world.one::<String>("SELECT string_agg(table_name, ',') FROM jobexec.stores").await, "runs");
}

#[tokio::test]
async fn a_table_that_was_built_again_keeps_what_people_granted_and_the_rest_on_request() {
    let (world, operator) = granted("rebuilt").await;
    world.sql("INSERT INTO job_executions VALUES (3, 1, 3, 'running', now() - interval '2 days')").await;
    world.until_true("SELECT count(*) = 1 FROM jobexec.events WHERE action = 'Failed'").await;
    operator.kill();
    rebuild(&world).await;
    // Without an operator: the grants exist, but do not belong to the table.
    let refused = run(&world, &["cleanup", "--yes", "--table", "public.job_executions"]);
    assert!(refused.contains("were given more time") && refused.contains("jobexec adopt"), "{refused}");
    world.sql(LATER).await;
    let operator = world.operator();
    let status =
        world.store_until(&operator, |s| is(&s.conditions, "AuditAvailable", "False", "RecordsLeft")).await;
    let text = message(&status.conditions, "AuditAvailable");
    assert!(text.contains("its table is called public.job_executions_old now"), "{text}");
    assert!(
        text.contains("except for the extensions")
            && text.contains("jobexec adopt --table public.job_executions"),
        "{text}"
    );
    assert!(is(&status.conditions, "Ready", "True", "Enforcing"), "it works on: {status:#?}");
    only_the_granted_one_lives(&world).await;

    let adopted = run(&world, &["adopt", "--table", "public.job_executions"]);
    assert!(adopted.contains("is the table's own now"), "{adopted}");
    world.store_changed(&operator, json!({"gracePeriod": "1m"})).await;
    world.store_until(&operator, |s| is(&s.conditions, "AuditAvailable", "True", "TablesPresent")).await;
    let records = "SELECT count(*) || ' ' || (SELECT string_agg(execution_id, ',' ORDER BY execution_id) FROM jobexec.events \
                   WHERE action = 'Failed' AND store_id = (SELECT min(store_id) FROM jobexec.stores)) FROM jobexec.stores";
    assert_eq!(world.one::<String>(records).await, "1 2,3");
    assert_eq!(world.status(1).await, "running");
}

#[tokio::test]
async fn after_a_restore_from_a_dump_what_people_granted_counts_and_the_rest_on_request() {
    let (world, operator) = granted("restored").await;
    operator.kill();
    // As after a restore: every table has another oid.
    world
        .sql(
            "UPDATE jobexec.stores SET registry = 1, table_oid = 1, uid = 'production'; \
             INSERT INTO jobexec.messages (message_id, store_id, channel, recipient, message, created_at, attempts, next_attempt_at, uid) \
             SELECT gen_random_uuid(), store_id, 'all', '', '{}', now(), 0, now(), 'production' FROM jobexec.stores",
        )
        .await;
    world.sql(LATER).await;
    let operator = world.operator();
    let status =
        world.store_until(&operator, |s| is(&s.conditions, "AuditAvailable", "False", "RecordsLeft")).await;
    let text = message(&status.conditions, "AuditAvailable");
    assert!(text.contains("from a dump") && text.contains("delivers 1 messages and events"), "{text}");
    // Taking over a copy would notify the people of the original.
    assert!(text.find("--discard") < text.find("takes it over"), "{text}");
    only_the_granted_one_lives(&world).await;
    world.annotate("jobexec.dev/adopt", "discard").await;
    world.store_until(&operator, |s| is(&s.conditions, "AuditAvailable", "True", "TablesPresent")).await;
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.stores").await, 1);
    world.request_sweep(&operator).await;
    assert_eq!(world.status(1).await, "running", "what was granted stays");
}

#[tokio::test]
async fn what_anybody_may_have_written_counts_on_request_only() {
    let (world, operator) = granted("foreign").await;
    operator.kill();
    // A table of this name is gone, and the owner of its record is unknown.
    rebuild(&world).await;
    world.sql("DROP TABLE job_executions_old; UPDATE jobexec.stores SET uid = 'other'").await;
    let operator = world.operator();
    let status =
        world.store_until(&operator, |s| is(&s.conditions, "AuditAvailable", "False", "RecordsLeft")).await;
    let text = message(&status.conditions, "AuditAvailable");
    assert!(
        text.contains("its table is gone; 1 executions were extended by hand")
            && text.contains("extensions included"),
        "{text}"
    );
    world.annotate("jobexec.dev/adopt", "1").await;
    world.store_until(&operator, |s| is(&s.conditions, "AuditAvailable", "True", "TablesPresent")).await;
    world.sql(LATER).await;
    only_the_granted_one_lives(&world).await;
}

#[tokio::test]
async fn nothing_is_ended_where_oid_and_name_lead_to_two_records_until_a_person_chooses() {
    for (how, lives) in [("discard", false), ("take", true)] {
        let (world, operator) = granted("swapped").await;
        operator.kill();
        // Two tables with a store each swap their names.
        world.sql(&TABLE.replace("job_executions", "others")).await;
        world
            .sql(
                "INSERT INTO others SELECT * FROM job_executions; \
                 INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name) \
                 VALUES ('jobexec.stores'::regclass, 'others'::regclass, 'public', 'others'); \
                 ALTER TABLE job_executions RENAME TO old; ALTER TABLE others RENAME TO job_executions",
            )
            .await;
        world.prepare_for(&json!({})).await;
        world.sql(LATER).await;
        let operator = world.operator();
        let status = world
            .store_until(&operator, |s| is(&s.conditions, "EnforcementPaused", "True", "RecordsContradict"))
            .await;
        let text = message(&status.conditions, "Ready");
        assert!(
            text.contains("was called public.others") && text.contains("its table is called public.old now"),
            "{text}"
        );
        world.store_until(&operator, |s| s.metrics.as_ref().is_some_and(|m| m.stale_executions == 2)).await;
        let refused = run(&world, &["cleanup", "--yes", "--table", "public.job_executions"]);
        assert!(refused.contains("Which one counts is for a person to say"), "{refused}");
        assert_eq!((world.status(1).await, world.status(2).await), ("running".into(), "running".into()));

        world.annotate("jobexec.dev/adopt", how).await;
        world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
        world.store_until(&operator, |s| is(&s.conditions, "AuditAvailable", "True", "TablesPresent")).await;
        world.request_sweep(&operator).await;
        assert_eq!(world.status(1).await == "running", lives);
        let names = "SELECT string_agg(table_name, ',' ORDER BY table_name) FROM jobexec.stores";
        let expected = if lives { "job_executions" } else { "job_executions,old" };
        assert_eq!(world.one::<String>(names).await, expected);
    }
}

#[tokio::test]
async fn a_new_table_by_the_name_of_one_that_was_renamed_away_is_worked_on() {
    let (world, operator) = granted("away").await;
    operator.kill();
    world.sql("ALTER TABLE job_executions RENAME TO archive").await;
    world.sql(TABLE).await;
    world.prepare_for(&json!({})).await;
    world.sql("INSERT INTO job_executions VALUES (9, 1, 1, 'running', now() - interval '2 days')").await;
    let operator = world.operator();
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 9").await;
    let status =
        world.store_until(&operator, |s| is(&s.conditions, "AuditAvailable", "False", "RecordsLeft")).await;
    assert!(
        message(&status.conditions, "AuditAvailable").contains("its table is called public.archive now"),
        "{status:#?}"
    );
    // The record belongs to the other table, which keeps it.
    world.annotate("jobexec.dev/adopt", "discard").await;
    world.store_until(&operator, |s| is(&s.conditions, "AuditAvailable", "True", "TablesPresent")).await;
    let names = "SELECT string_agg(table_name, ',' ORDER BY table_name) FROM jobexec.stores";
    assert_eq!(world.one::<String>(names).await, "archive,job_executions");
    let kept = "SELECT count(*) FROM jobexec.rules AS r JOIN jobexec.stores USING (store_id) \
                WHERE table_name = 'archive' AND r.key = '1' AND r.extend_by = '48 hours'";
    assert_eq!(world.one::<i64>(kept).await, 1);
}
