//! The command `jobexec list`, and the output formats.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::json;

use super::{Ran, command, jobexec, values};
use crate::support::World;

/// Rows on several pages, many with the same start and some without a start.
async fn many(test: &str) -> World {
    let world = World::new(test).await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, n % 7, n, 'running', \
                 CASE WHEN n % 50 > 0 THEN now() - interval '30 hours' + n / 40 * interval '5 minutes' END \
             FROM generate_series(1, 2500) n; \
             INSERT INTO job_executions SELECT n, n % 7, n, 'completed', now() - interval '3 hours', now() \
             FROM generate_series(2501, 2600) n",
        )
        .await;
    world
}

#[tokio::test]
async fn every_execution_is_on_one_page_in_order() {
    let world = many("pages").await;
    let ids = |args: &[&str]| -> Vec<i64> {
        let ran = jobexec(&world, &[args, &["-o", "name"]].concat());
        ran.ended(0).lines().map(|id| id.parse().unwrap()).collect()
    };
    let expected = |condition: &str, order: &str| {
        let sql = format!(
            "SELECT coalesce(array_agg(id ORDER BY started_at {order}, id {order}), '{{}}') FROM job_executions WHERE {condition}"
        );
        let world = &world;
        async move { world.one::<Vec<i64>>(&sql).await }
    };
    let running = expected("status = 'running'", "ASC").await;
    assert_eq!(running.len(), 2500);
    assert_eq!(ids(&["list"]), running);
    assert_eq!(ids(&["list", "--limit", "101"]), running[..101]);
    let overdue = expected("status = 'running' AND started_at < now() - interval '24 hours'", "ASC").await;
    assert!(overdue.len() > 2 * 100, "{}", overdue.len());
    assert_eq!(ids(&["list", "--overdue"]), overdue);
    assert_eq!(ids(&["list", "--stale"]), overdue);
    let of_job = expected("status = 'running' AND job_id = 3", "ASC").await;
    assert_eq!(ids(&["list", "--job", "3"]), of_job);
    let old =
        expected("status = 'running' AND started_at < now() - interval '28 hours' AND job_id = 3", "ASC")
            .await;
    assert_eq!(ids(&["list", "--job", "3", "--older-than", "28h"]), old);
    let all = ids(&["list", "--all", "--limit", "9999"]);
    assert_eq!(all.len(), 2600);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 2600);
    assert!(
        all[..100].iter().all(|id| *id != 0) && all[2600 - 50..].iter().all(|id| id % 50 == 0),
        "{all:?}"
    );
    assert_eq!(ids(&["list", "--all"]).len(), 100);
}

#[tokio::test]
async fn ids_of_text_and_local_times_are_paged_too() {
    let table = "CREATE TYPE state AS ENUM ('scheduled', 'running', 'completed', 'failed', 'cancelled'); \
         CREATE TABLE runs (id text PRIMARY KEY, job_id uuid, execution_number integer, status state, \
             started_at timestamp, completed_at timestamp, made timestamp); \
         INSERT INTO runs SELECT 'Run %~' || n || '_''', gen_random_uuid(), 1, 'running', \
             timestamp '2025-10-26 00:00' + n / 9 * interval '7 minutes' FROM generate_series(1, 300) n; \
         INSERT INTO runs VALUES ('infinite', NULL, NULL, 'running', '-infinity', NULL, NULL), \
             ('unstarted', NULL, NULL, 'running', NULL, NULL, '2025-01-01'), \
             ('waiting', NULL, NULL, 'scheduled', NULL, NULL, NULL)";
    let spec =
        json!({"table": {"name": "runs", "timeZone": "Europe/Berlin", "columns": {"createdAt": "made"}}});
    let world = World::with("textids", table, &spec).await;
    let file = world.file("store.yaml", &World::store_with("jobs", spec).to_string());
    let listed = jobexec(&world, &["list", "-f", &file, "-o", "json"]).json(0);
    let ids = values(&listed, "id");
    assert_eq!((ids.len(), ids[0], ids[301]), (302, "infinite", "unstarted"));
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 302);
    // Its creation long ago says nothing about its start: it counts from when it was observed running.
    let seen = ids.iter().copied().filter(|id| *id != "unstarted").collect();
    let dry = jobexec(&world, &["cleanup", "-f", &file, "--max-hours", "1", "--dry-run", "-o", "name"]);
    let would: BTreeSet<&str> = dry.ended(0).lines().collect();
    assert_eq!(would, seen);
    let done = jobexec(&world, &["cleanup", "-f", &file, "--max-hours", "1", "--yes", "-o", "name"]);
    assert_eq!(done.ended(0).lines().collect::<BTreeSet<_>>(), would);
    let named = jobexec(&world, &["cleanup", "-f", &file, "--id", "Run %", "--yes", "-o", "json"]).json(1);
    assert_eq!(named[0]["skipped"]["reason"], "NotFound");
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_error() {
    let world = many("pipe").await;
    let file = world.file("store.yaml", &World::store_with("jobs", json!({})).to_string());
    let mut child = command(&world, &["list", "-f", &file])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert!(line.starts_with("ID "), "{line}");
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn the_same_in_each_format() {
    let table = "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint, execution_number integer, \
         status text, started_at timestamptz, completed_at timestamptz, kind text); \
         INSERT INTO job_executions VALUES (1, 2, 3, 'running', '2025-08-07 18:18:08Z', NULL, E'mail\\x1b[2J\\n世界')";
    let spec = json!({"table": {"columns": {"jobType": "kind"}}});
    let world = World::with("formats", table, &spec).await;
    let file = world.file("store.yaml", &World::store_with("jobs", spec).to_string());
    let list = |more: &[&str]| jobexec(&world, &[&["list", "-f", &file], more].concat());

    let wide = list(&["-o", "wide"]);
    let text = wide.ended(0);
    assert!(
        text.starts_with("ID   JOB   #   STATUS    RUNTIME") && text.contains("mail\\u{1b}[2J\\n世界"),
        "{text}"
    );
    assert!(!text.contains('\x1b'), "{text}");
    assert!(!list(&["--no-headers"]).ended(0).contains("RUNTIME"));
    assert_eq!(list(&["-o", "name"]).ended(0), "1\n");
    let object = list(&["-o", "json"]).json(0);
    assert_eq!(object[0]["started_at"], "2025-08-07T18:18:08Z");
    assert_eq!(object[0]["job_type"], "mail\x1b[2J\n世界");
    let yaml: serde_json::Value = serde_saphyr::from_str(list(&["-o", "yaml"]).ended(0)).unwrap();
    assert_eq!(yaml[0]["id"], "1");
    assert_eq!(list(&["-o", "json", "--job", "77"]).ended(0), "[]\n");
    assert_eq!(list(&["-o", "yaml", "--job", "77"]).ended(0), "[]\n");
    let none = list(&["--job", "77"]);
    assert_eq!((none.ended(0), none.err.as_str()), ("", "No execution is running.\n"));

    let abroad = |more: &[&str]| {
        let mut command = command(&world, &[&["list", "-f", &file, "-o", "wide"], more].concat());
        Ran::of(command.env("TZ", "<+02>-2").output().unwrap())
    };
    assert!(abroad(&[]).ended(0).contains("2025-08-07T20:18:08+02:00"), "{}", abroad(&[]).out);
    assert!(abroad(&["--utc"]).ended(0).contains("2025-08-07T18:18:08Z"));

    let explained = jobexec(&world, &["explain", "1", "-f", &file, "-o", "json"]).json(0);
    assert_eq!((&explained["id"], &explained["stale"]["reason"]), (&json!("1"), &json!("DeadlineExceeded")));
    assert_eq!(explained["operator"], false);
}
