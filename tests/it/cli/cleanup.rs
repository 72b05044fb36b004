//! The command `jobexec cleanup`: the executions that it ends, those that it skips, and that the dry run shows the same.

use serde_json::{Value, json};

use super::{TABLE, jobexec, on_table, values};
use crate::support::{World, is};

/// The result for each row, by its id.
fn results(rows: &Value) -> Vec<String> {
    let result = |row: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let skipped = text(&row["skipped"]["reason"]);
        let (what, why) = if skipped == "-" {
            (text(&row["action"]), text(&row["reason"]))
        } else {
            ("skipped".to_owned(), skipped)
        };
        format!("{} {what} {why} {}", text(&row["id"]), text(&row["source"]))
    };
    let mut results: Vec<String> = rows.as_array().unwrap().iter().map(result).collect();
    results.sort();
    results
}

/// A world whose operator only observes, with one execution for each kind of object that governs it.
async fn governed() -> World {
    let world = World::new("governed").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '30 hours' FROM generate_series(1, 6) n; \
             INSERT INTO job_executions VALUES (7, 7, 1, 'running', now() - interval '3 hours'), \
             (8, 8, 1, 'running', now() - interval '10 minutes'), (9, 4, 2, 'running', now() - interval '3 hours'), \
             (10, 2, 2, 'running', now() - interval '3 hours')",
        )
        .await;
    let operator = world.operator();
    world.policy("long", json!({"selector": {"jobIds": ["2"]}, "timeout": "48h"})).await;
    world.policy("told", json!({"selector": {"jobIds": ["4"]}, "onStale": "AlertOnly"})).await;
    world
        .policy("called-off", json!({"selector": {"jobIds": ["5"]}, "timeout": "1h", "onStale": "Cancel"}))
        .await;
    world.execution("slow", "3", json!({"extendBy": "20h"})).await;
    world.store(json!({"mode": "Observe"})).await;
    world.execution_until(&operator, "slow", |s| is(&s.conditions, "Accepted", "True", "InForce")).await;
    world.until_true("SELECT count(*) = 5 FROM jobexec.rules WHERE scope <> 'type'").await;
    world
}

#[tokio::test]
async fn the_policies_decide_and_say_why() {
    let world = governed().await;
    let expected = [
        "1 Failed DeadlineExceeded ExecutionStore/jobs",
        "4 skipped AlertOnly ExecutionStore/jobs",
        "5 Cancelled DeadlineExceeded ExecutionPolicy/called-off",
        "6 Failed DeadlineExceeded ExecutionStore/jobs",
    ];
    let dry = jobexec(&world, &["cleanup", "--dry-run", "-o", "json"]).json(0);
    assert_eq!(results(&dry), expected);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM job_executions WHERE status <> 'running'").await, 0);
    let done = jobexec(&world, &["cleanup", "--yes", "-o", "json"]).json(0);
    assert_eq!(results(&done), expected);
    let ended: Vec<String> = world
        .one(
            "SELECT array_agg(id || ' ' || status ORDER BY id) FROM job_executions WHERE status <> 'running'",
        )
        .await;
    assert_eq!(ended, ["1 failed", "5 cancelled", "6 failed"]);
    let recorded: Vec<String> = world
        .one(
            "SELECT array_agg(concat_ws(' ', execution_id, action, reason, source) ORDER BY execution_id) \
             FROM jobexec.events WHERE actor LIKE '%@%' AND action IN ('Failed', 'Cancelled')",
        )
        .await;
    let told: Vec<&str> = expected.into_iter().filter(|line| !line.contains("skipped")).collect();
    assert_eq!(recorded, told);
}

#[tokio::test]
async fn a_threshold_takes_the_place_of_the_default_only() {
    let world = governed().await;
    let expected = [
        "1 Failed DeadlineExceeded ExecutionStore/jobs",
        "10 skipped Governed CommandLine",
        "2 skipped Governed CommandLine",
        "3 skipped Extended CommandLine",
        "4 skipped AlertOnly CommandLine",
        "5 Cancelled DeadlineExceeded ExecutionPolicy/called-off",
        "6 Failed DeadlineExceeded ExecutionStore/jobs",
        "7 Failed ManualCleanup CommandLine",
        "9 skipped AlertOnly CommandLine",
    ];
    let args = ["cleanup", "--max-hours", "2", "-o", "json"];
    let dry = jobexec(&world, &[&args[..], &["--dry-run"]].concat()).json(0);
    assert_eq!(results(&dry), expected);
    // With ids too, only those that are older; a missing one changes the exit status.
    let named = ["--dry-run", "--id", "7", "--id", "8", "--id", "77"];
    let named = jobexec(&world, &[&args[..], &named[..]].concat()).json(1);
    assert_eq!(
        results(&named),
        ["7 Failed ManualCleanup CommandLine", "77 skipped NotFound -", "8 skipped TooYoung -"]
    );

    let done = jobexec(&world, &[&args[..], &["--yes"]].concat()).json(0);
    assert_eq!(results(&done), expected);
    let table = jobexec(&world, &["cleanup", "--older-than", "2h", "--yes"]).lines(0);
    assert!(
        table.contains(&"2 2 1 30.0 h skipped Governed: ExecutionPolicy/long gives it 2d -".to_owned()),
        "{table:?}"
    );
    assert!(
        table.contains(&"3 3 1 30.0 h skipped Extended: JobExecution/slow gives it 20h more -".to_owned()),
        "{table:?}"
    );
    assert!(table.contains(&"Successfully cleaned up 0 stale executions".to_owned()), "{table:?}");

    // With the flag it ends them too, and the source is the command line.
    let all = jobexec(&world, &[&args[..], &["--yes", "--include-governed"]].concat()).json(0);
    let ids = ["10", "2", "3", "4", "9"];
    assert_eq!(results(&all), ids.map(|id| format!("{id} Failed ManualCleanup CommandLine")));
    assert_eq!(
        world.one::<Vec<i64>>("SELECT array_agg(id) FROM job_executions WHERE status = 'running'").await,
        [8]
    );
}

#[tokio::test]
async fn a_worker_wins_and_a_row_that_is_held_is_told() {
    let world = World::new("held").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '30 hours' FROM generate_series(1, 3) n",
        )
        .await;
    let mut worker = world.pool.begin().await.unwrap();
    sqlx::query("UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 2")
        .execute(&mut *worker)
        .await
        .unwrap();
    let done = on_table(&world, &["cleanup", "--yes", "-o", "json"]).json(0);
    let store = "ExecutionStore/default";
    let expected = [
        format!("1 Failed DeadlineExceeded {store}"),
        format!("2 skipped Locked {store}"),
        format!("3 Failed DeadlineExceeded {store}"),
    ];
    assert_eq!(results(&done), expected);
    // With ids too, some of which this very call has ended.
    world.sql("INSERT INTO job_executions VALUES (4, 4, 1, 'running', now())").await;
    let named = on_table(&world, &["cleanup", "--yes", "--id", "2", "--id", "4", "-o", "json"]).json(0);
    let expected = [format!("2 skipped Locked {store}"), "4 Failed ManualCleanup CommandLine".to_owned()];
    assert_eq!(results(&named), expected);
    worker.commit().await.unwrap();
    assert_eq!(world.status(2).await, "completed");
    let table = on_table(&world, &["cleanup", "--yes", "--id", "2"]).lines(0);
    assert!(table[1].contains("skipped NotRunning: it does not run, it is completed"), "{table:?}");
}

#[tokio::test]
async fn two_clean_ups_at_once_share_the_rows() {
    let world = World::new("two").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '30 hours' FROM generate_series(1, 20000) n",
        )
        .await;
    let args = [&["cleanup", "--yes", "--max-hours", "1", "-o", "name"], &TABLE[..]].concat();
    let run = || super::command(&world, &args);
    let pipe = std::process::Stdio::piped;
    let both = [run().stdout(pipe()).spawn().unwrap(), run().stdout(pipe()).spawn().unwrap()];
    let mut ids: Vec<i64> = Vec::new();
    for child in both {
        let ran = super::Ran::of(child.wait_with_output().unwrap());
        ids.extend(ran.ended(0).lines().map(|id| id.parse::<i64>().unwrap()));
    }
    ids.sort_unstable();
    assert_eq!(ids, (1..=20000).collect::<Vec<_>>());
    let recorded = "SELECT count(*) = 20000 AND count(DISTINCT execution_id) = 20000 FROM jobexec.events";
    assert!(world.one::<bool>(recorded).await);
    let history = jobexec(&world, &["history", "--limit", "1200", "--since", "1h", "-o", "name"]);
    let told: std::collections::BTreeSet<&str> = history.ended(0).lines().collect();
    assert_eq!(told.len(), 1200);
}

#[tokio::test]
async fn what_the_table_refuses_is_told_and_holds_up_no_other() {
    let world = World::new("refused").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '30 hours' FROM generate_series(1, 9) n; \
             ALTER TABLE job_executions ADD CONSTRAINT five CHECK (id <> 5 OR status <> 'failed')",
        )
        .await;
    let done = on_table(&world, &["cleanup", "--older-than", "1h", "--yes", "-o", "json"]).json(0);
    let refused: Vec<&Value> =
        done.as_array().unwrap().iter().filter(|row| !row["skipped"].is_null()).collect();
    assert_eq!(refused.len(), 1, "{done}");
    assert_eq!((&refused[0]["id"], &refused[0]["skipped"]["reason"]), (&json!("5"), &json!("Refused")));
    assert!(refused[0]["skipped"]["message"].as_str().unwrap().contains("five"), "{done}");
    assert_eq!(world.one::<i64>("SELECT count(*) FROM job_executions WHERE status = 'failed'").await, 8);
    assert_eq!(values(&done, "id").len(), 9);
}

#[tokio::test]
async fn it_works_without_the_operators_tables() {
    let world = World::bare("unrecorded").await;
    world.sql(crate::support::world::TABLE).await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 hours')").await;
    let grants = format!(
        "GRANT SELECT, UPDATE ON job_executions TO {role}; GRANT USAGE ON SCHEMA public TO {role}",
        role = world.role
    );
    world.sql(&grants).await;
    let ran = on_table(&world, &["cleanup", "--id", "1", "--yes"]);
    assert!(ran.ended(0).contains("Successfully cleaned up 1 stale execution"), "{}", ran.out);
    assert!(ran.err.contains("this is not recorded, because the schema jobexec is missing"), "{}", ran.err);
    assert_eq!(world.status(1).await, "failed");
}

/// The reader stops early, like `head`.
#[tokio::test]
async fn a_reader_that_goes_away_does_not_stop_it() {
    let world = World::new("head").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '30 hours' FROM generate_series(1, 12000) n",
        )
        .await;
    let mut ended = super::command(&world, &[&["cleanup", "--yes", "-o", "name"], &TABLE[..]].concat());
    let mut child = ended.stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(world.one::<i64>("SELECT count(*) FROM job_executions WHERE status = 'failed'").await, 12_000);
}

#[tokio::test]
async fn heartbeats_count_from_now_on_where_the_operator_was_away() {
    let spec = json!({"table": {"columns": {"heartbeatAt": "beat"}}, "heartbeatTimeout": "1h"});
    let world = World::new("lost").await;
    world.sql("ALTER TABLE job_executions ADD beat timestamptz").await;
    world.prepare_for(&spec).await;
    world
        .sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '3 hours', NULL, now() - interval '2 hours')")
        .await;
    let file = world.file("store.yaml", &World::store_with("jobs", spec).to_string());
    jobexec(&world, &["cleanup", "--yes", "-f", &file]).ended(0);
    let seen = async |ago: &str| {
        world
            .sql(&format!(
                "UPDATE jobexec.stores SET uid = 'x', namespace = 'n', name = 'jobs', \
                 watched_since = now() - interval '1 day', seen_at = now() - interval '{ago}'"
            ))
            .await;
    };
    seen("10 minutes").await;
    let stale = jobexec(&world, &["list", "--stale", "-f", &file, "-o", "json"]).json(0);
    assert_eq!(stale, json!([]), "nobody has watched it lately");
    jobexec(&world, &["cleanup", "--yes", "-f", &file]).ended(0);
    assert_eq!(world.status(1).await, "running");
    seen("0").await;
    let done = jobexec(&world, &["cleanup", "--yes", "-f", &file, "-o", "json"]).json(0);
    assert_eq!(results(&done), ["1 Failed HeartbeatLost ExecutionStore/jobs"]);
}

#[tokio::test]
async fn local_times_of_another_zone_are_not_written_to_unless_the_zone_is_known() {
    let spec = json!({"table": {"timeZone": "Asia/Tokyo"}});
    let world = World::new("zones").await;
    world
        .sql("ALTER TABLE job_executions ALTER started_at TYPE timestamp, ALTER completed_at TYPE timestamp")
        .await;
    // In Tokyo it is nine hours later: read as UTC, this one has not begun.
    world
        .sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() AT TIME ZONE 'Asia/Tokyo' - interval '2 hours')")
        .await;
    let file = world.file("store.yaml", &World::store_with("jobs", spec).to_string());
    world
        .sql(
            "INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name, uid, namespace, name, seen_at) \
             VALUES ('jobexec.stores'::regclass, 'job_executions'::regclass, 'public', 'job_executions', 'x', 'n', 'jobs', now())",
        )
        .await;
    let refused = jobexec(&world, &["cleanup", "--id", "1", "--yes"]);
    assert!(refused.ended(1).is_empty() && refused.err.contains("give it with -f"), "{}", refused.err);
    assert_eq!(world.status(1).await, "running");
    let listed = jobexec(&world, &["list"]);
    assert!(listed.ended(0).contains("running") || listed.out.contains('1'), "{}", listed.out);
    assert!(listed.err.contains("with times in UTC"), "{}", listed.err);
    jobexec(&world, &["cleanup", "--max-hours", "1", "--yes", "-f", &file]).ended(0);
    assert_eq!(world.status(1).await, "failed");
}
