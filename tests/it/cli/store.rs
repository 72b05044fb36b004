//! The table that the command line uses, and that it judges like the operator that manages it.

use serde_json::json;

use super::{Ran, command, jobexec, on_table};
use crate::support::{World, is};

const TYPED: &str = "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint, execution_number integer, \
     status text, started_at timestamptz, completed_at timestamptz, kind text)";

/// A world whose operator only observes a table with job types, one of them protected by a policy.
async fn protected(test: &str) -> World {
    let spec = json!({"mode": "Observe", "table": {"columns": {"jobType": "kind"},
                      "statuses": {"running": ["running", "busy"]}}, "defaultTimeout": "2h"});
    let world = World::with(test, TYPED, &spec).await;
    world
        .sql(
            "INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '30 hours', NULL, 'import'), \
             (2, 2, 1, 'busy', now() - interval '3 hours', NULL, 'mail')",
        )
        .await;
    let operator = world.operator();
    let policy = json!({"selector": {"jobTypes": ["import"]}, "onStale": "AlertOnly"});
    world.policy("protected", policy).await;
    world.store(spec).await;
    world.policy_until(&operator, "protected", |s| is(&s.conditions, "Accepted", "True", "InForce")).await;
    // Its claim stays.
    operator.kill();
    world
}

#[tokio::test]
async fn what_the_operator_protects_is_protected_from_the_command_line_too() {
    let world = protected("protected").await;
    let explained = jobexec(&world, &["explain", "1"]);
    assert!(explained.ended(0).contains("ExecutionPolicy/protected"), "{}", explained.out);
    let stale = jobexec(&world, &["list", "--stale", "-o", "name"]);
    assert_eq!((stale.ended(0), stale.err.as_str()), ("1\n2\n", ""));
    let done = jobexec(&world, &["cleanup", "--yes", "-o", "json"]).json(0);
    assert_eq!(super::values(&done, "id"), ["2", "1"]);
    assert_eq!((&done[0]["action"], &done[1]["skipped"]["reason"]), (&json!("Failed"), &json!("AlertOnly")));
    assert_eq!((world.status(1).await, world.status(2).await), ("running".to_owned(), "failed".to_owned()));

    // After the rename it is the same table, with the same mapping.
    world.sql("ALTER TABLE job_executions RENAME TO runs").await;
    assert_eq!(jobexec(&world, &["list", "--stale", "-o", "name"]).ended(0), "1\n");
}

#[tokio::test]
async fn what_contradicts_the_operator_is_refused() {
    let world = protected("contradicts").await;
    let file = world.file("other.yaml", &World::store_with("jobs", json!({})).to_string());
    for args in [&["cleanup", "--yes"][..], &["list"], &["explain", "1"], &["extend", "1", "--by", "1h"]] {
        let ran = jobexec(&world, &[args, &["-f", &file]].concat());
        assert!(ran.ended(1).is_empty(), "{}", ran.out);
        for told in [
            "spec.defaultTimeout is \"24h\" in the file and \"2h\" there",
            "spec.table.columns.jobType",
            "/jobs",
        ] {
            assert!(ran.err.contains(told), "{told}: {}", ran.err);
        }
    }
    let twice = jobexec(&world, &["list", "--table", "app.runs", "-f", &file]);
    assert!(twice.ended(2).is_empty() && twice.err.contains("give only one of them"), "{}", twice.err);
    // A table that the operator knows may be named as well.
    assert_eq!(on_table(&world, &["list", "--stale", "-o", "name"]).ended(0), "1\n2\n");
    // Records of a newer operator are not read partially.
    world.sql("UPDATE jobexec.stores SET mapping = jsonb_set(mapping, '{spec,table,rowsOf}', '[1]')").await;
    for run in [jobexec, on_table] {
        let ran = run(&world, &["list"]);
        assert!(ran.ended(1).is_empty() && ran.err.contains("table.rowsOf"), "{}", ran.err);
    }
    assert_eq!((world.status(1).await, world.status(2).await), ("running".to_owned(), "busy".to_owned()));
}

#[tokio::test]
async fn of_several_stores_one_is_to_be_named() {
    let world = protected("several").await;
    let other = "INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name, uid, namespace, name, seen_at) \
         VALUES ('jobexec.stores'::regclass, 'app.runs'::regclass, 'app', 'runs', 'x', 'prod', 'runs', now())";
    let table = crate::support::world::TABLE.replace("job_executions", "app.runs");
    let grant =
        format!("GRANT USAGE ON SCHEMA app TO {0}; GRANT SELECT, UPDATE ON app.runs TO {0}", world.role);
    world.sql(&format!("CREATE SCHEMA app; {table}; {grant}; {other}")).await;
    world.sql("INSERT INTO app.runs VALUES (1, 1, 1, 'running', now() - interval '30 hours')").await;
    for args in
        [&["cleanup", "--yes"][..], &["cancel", "1"], &["list"], &["health"], &["history"], &["resume"]]
    {
        let ran = jobexec(&world, args);
        assert!(ran.ended(2).is_empty(), "{args:?}: {}", ran.out);
        let choices = format!(
            "--table app.runs (ExecutionStore prod/runs), --table public.job_executions (ExecutionStore {}/jobs)",
            world.namespace
        );
        assert!(ran.err.contains(&choices), "{args:?}: {}", ran.err);
    }
    let done = on_table(&world, &["cleanup", "--yes", "-o", "name"]);
    assert_eq!(done.ended(0), "2\n");
    // No operator has recorded the mapping of the other table.
    let app = ["--table", "app.runs"];
    let refused = jobexec(&world, &[&["cleanup", "--yes"][..], &app].concat());
    assert!(
        refused.ended(1).is_empty() && refused.err.contains("ExecutionStore prod/runs manages app.runs"),
        "{}",
        refused.err
    );
    let read = jobexec(&world, &[&["list", "-o", "name"][..], &app].concat());
    assert!(read.ended(0) == "1\n" && read.err.contains("has not recorded how to map rows"), "{}", read.err);
    assert_eq!(world.one::<String>("SELECT status FROM app.runs").await, "running");
}

#[tokio::test]
async fn the_schema_is_applied_for_the_mapping_of_the_store() {
    let world = protected("applied").await;
    world.sql("DROP INDEX job_executions_running").await;
    let output = world.jobexec(&["schema", "--apply"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let index: String = world.one("SELECT pg_get_indexdef('job_executions_running'::regclass)").await;
    assert!(index.contains("'busy'"), "{index}");
}

#[tokio::test]
async fn nothing_is_changed_by_a_guess() {
    let world = World::new("guess").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '30 hours')").await;
    for args in [
        &["cleanup", "--yes"][..],
        &["cleanup", "--yes", "--id", "1"],
        &["cancel", "1"],
        &["extend", "1", "--by", "1h"],
    ] {
        let ran = jobexec(&world, args);
        assert!(ran.ended(1).is_empty(), "{args:?}: {}", ran.out);
        assert!(ran.err.contains("for example --table public.job_executions"), "{args:?}: {}", ran.err);
    }
    assert_eq!(world.status(1).await, "running");
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.stores").await, 0);
    let read = |args: &[&str]| Ran::of(command(&world, args).output().unwrap());
    for args in [&["list", "-o", "name"][..], &["cleanup", "--dry-run", "-o", "name"]] {
        let ran = read(args);
        assert!(ran.ended(0) == "1\n" && ran.err.contains("is a guess"), "{args:?}: {}", ran.err);
    }
    let named = on_table(&world, &["cleanup", "--yes", "-o", "name"]);
    assert!(named.ended(0) == "1\n" && named.err.contains("without policies"), "{}", named.err);
    let store = jobexec(&world, &["list", "--table", "public.job_executions", "--store", "n/jobs"]);
    assert!(store.ended(2).is_empty(), "{}", store.err);
    let unnamed = jobexec(&world, &["list", "--table", "job_executions"]);
    assert!(unnamed.ended(2).is_empty() && unnamed.err.contains("write SCHEMA.NAME"), "{}", unnamed.err);
}

const NO_SESSION: &str = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'jobexec%' \
     AND datname = current_database()";

#[tokio::test]
async fn a_command_leaves_no_session_that_the_server_counts_as_lost() {
    let world = World::new("sessionsleft").await;
    let lost = "SELECT sessions_abandoned FROM pg_stat_database WHERE datname = current_database()";
    let before: i64 = world.one(lost).await;
    for arguments in [&["list"][..], &["list", "--table", "public.none"], &["schema", "--apply"]].repeat(10) {
        jobexec(&world, arguments);
    }
    world.until_true(NO_SESSION).await;
    assert_eq!(world.one::<i64>(lost).await, before);

    // Nor does an operator that stops, which also listens for changes.
    let notify = world.jobexec(&["schema", "--apply", "--role", &world.role, "--with", "notify"]);
    assert!(notify.status.success());
    world.store(json!({})).await;
    for _ in 0..5 {
        let operator = world.operator();
        world
            .until_true(
                "SELECT count(*) = 1 FROM pg_stat_activity WHERE query ILIKE 'LISTEN%' \
                 AND query NOT LIKE 'SELECT%' AND datname = current_database()",
            )
            .await;
        assert!(operator.stop().success());
        world.until_true(NO_SESSION).await;
    }
    assert_eq!(world.one::<i64>(lost).await, before);
}
