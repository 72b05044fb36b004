//! The output is the same as with direct access to the database.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use super::super::terminal::on_terminal;
use super::super::{Ran, jobexec};
use super::{Remote, stale};
use crate::support::machine::{Part, needs, program};
use crate::support::{World, is};

/// One execution for each kind of object that governs it, and some that have ended.
async fn governed(test: &str) -> Remote {
    let world = World::new(test).await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, n, 1, 'running', date_trunc('second', now()) - interval '30 hours 90 seconds' FROM generate_series(1, 6) n; \
             INSERT INTO job_executions VALUES (7, 7, 1, 'running', now() - interval '3 hours 90 seconds', NULL), \
             (8, 8, 1, 'running', now() - interval '10 minutes', NULL), (9, 2, 2, 'running', NULL, NULL), \
             (10, 2, 3, 'scheduled', NULL, NULL), \
             (11, 2, 4, 'completed', now() - interval '3 hours', now() - interval '2 hours'), \
             (12, 2, 5, 'odd', now() - interval '3 hours', NULL)",
        )
        .await;
    let remote = Remote::of(world, &[]).await;
    let (world, operator) = (&remote.world, &remote.operator);
    let effective_rules = |s: &[_]| is(s, "Accepted", "True", "InForce");
    world.policy("long", json!({"selector": {"jobIds": ["2"]}, "timeout": "48h"})).await;
    let told = json!({"selector": {"jobIds": ["4"]}, "onStale": "AlertOnly"});
    world.policy("told", told).await;
    let off = json!({"selector": {"jobIds": ["5"]}, "timeout": "1h", "onStale": "Cancel"});
    world.policy("called-off", off).await;
    world.execution("slow", "3", json!({"extendBy": "20h"})).await;
    world.execution_until(operator, "slow", |s| effective_rules(&s.conditions)).await;
    world.policy_until(operator, "told", |s| effective_rules(&s.conditions)).await;
    world.until_true("SELECT count(*) = 5 FROM jobexec.rules WHERE scope <> 'type'").await;
    remote
}

/// Removes values that depend on the time and on the kind of access.
fn calm(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match name.as_str() {
                    "runtime_seconds" | "now" | "timestamp" if !value.is_null() => *value = json!("some"),
                    _ => calm(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(calm),
        Value::String(text) if text == "CommandLine" || text == "HttpApi" => "either".clone_into(text),
        _ => {}
    }
}

/// Removes them from a line.
fn calm_line(line: &str) -> String {
    let line = line.replace("CommandLine", "either").replace("HttpApi", "either");
    match line.rsplit_once(", ") {
        Some((line, distance)) if distance.starts_with("in ") || distance.ends_with(" ago") => {
            line.to_owned()
        }
        _ => line,
    }
}

#[track_caller]
fn same(remote: &Remote, args: &[&str], formats: &[&str]) {
    for format in formats {
        let args = [args, &["-o", format]].concat();
        let (direct, through) = (jobexec(&remote.world, &args), remote.run(&args));
        let seen = |ran: &Ran| -> Vec<String> { ran.out.lines().map(calm_line).collect() };
        match *format {
            "json" | "yaml" if !direct.out.is_empty() => {
                let read = |ran: &Ran| -> Value {
                    let mut value: Value = serde_saphyr::from_str(&ran.out).unwrap();
                    calm(&mut value);
                    value
                };
                assert_eq!(read(&through), read(&direct), "{args:?}\n{}", through.err);
            }
            // Compares words only: `either` has a different width than the words it replaces.
            _ if args[0] == "cleanup" => {
                let words = |ran: &Ran| {
                    seen(ran)
                        .iter()
                        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
                        .collect::<Vec<_>>()
                };
                assert_eq!(words(&through), words(&direct), "{args:?}\n{}", through.err);
            }
            _ if args[0] == "health" => {
                assert_eq!(through.lines(1)[..1], direct.lines(1)[..1], "{args:?}\n{}", through.err);
            }
            _ => assert_eq!(seen(&through), seen(&direct), "{args:?}\n{}", through.err),
        }
        assert_eq!(through.code, direct.code, "{args:?}\n{}{}", through.err, direct.err);
        if args[0] != "health" {
            assert_eq!(through.err, direct.err, "{args:?}");
        }
    }
}

const ALL: [&str; 5] = ["table", "wide", "json", "yaml", "name"];

#[tokio::test]
async fn what_is_read_is_the_same_either_way() {
    let remote = Box::pin(governed("remotesame")).await;
    for args in [
        &["list"][..],
        &["list", "--all"],
        &["explain", "3"],
        &["cleanup", "--dry-run", "--max-hours", "2"],
        &["health"],
    ] {
        same(&remote, args, &ALL);
    }
    for args in [
        &["list", "--overdue"][..],
        &["list", "--stale", "--limit", "2"],
        &["list", "--job", "2", "--older-than", "6h"],
        &["explain", "4"],
        &["explain", "9"],
        &["explain", "11"],
        &["explain", "12"],
        &["cleanup", "--dry-run"],
        &["cleanup", "--dry-run", "--older-than", "2h", "--include-governed"],
        &["cleanup", "--dry-run", "--max-hours", "2", "--id", "7", "--id", "8", "--id", "77", "--id", "7"],
    ] {
        same(&remote, args, &["json"]);
    }
    // Invalid requests, with the same messages.
    for args in [
        &["list", "--job", "_"][..],
        &["list", "--job", "77"],
        &["explain", "77"],
        &["explain", "../x"],
        &["cleanup", "--yes", "--id", "%"],
        &["history", "--id", "x"],
        &["history", "--job", "x"],
        &["history", "--id", "77"],
    ] {
        same(&remote, args, &["table"]);
    }
}

#[tokio::test]
async fn health_over_time_is_the_same_either_way() {
    let remote = Remote::of(stale("remotesamples").await, &[]).await;
    // Future samples too, so that the operator stores none between two requests.
    remote
        .world
        .sql(
            "INSERT INTO jobexec.samples \
             SELECT store_id, date_trunc('minute', now()) + n * interval '1 minute', abs(n) % 7, NULLIF(abs(n) % 5, 3), 1, 1, 0 \
             FROM jobexec.stores, generate_series(-9000, 60) n WHERE n NOT BETWEEN -8000 AND -500 ON CONFLICT DO NOTHING",
        )
        .await;
    // A gap before the first sample lasts for days.
    same(&remote, &["trends", "--since", "720h", "--step", "24h"], &ALL);
    same(&remote, &["trends", "--since", "5h"], &["name"]);
    let (table, rows) = (remote.run(&["trends", "--since", "720h"]), remote.run(&["trends", "-o", "json"]));
    assert_eq!(table.lines(0).iter().filter(|line| line.ends_with(" - - - - -")).count(), 2, "{}", table.out);
    assert!(rows.json(0).as_array().unwrap().len() > 15, "{}", rows.out);
}

#[tokio::test]
async fn what_is_done_is_the_same_either_way_but_for_who_did_it() {
    let remote = Box::pin(governed("remotedone")).await;
    let done = |ran: Ran| {
        let mut rows = ran.json(0);
        calm(&mut rows);
        for field in ["id", "job_id", "completed_at"] {
            assert!(!rows[0][field].is_null(), "{rows:#}");
            rows[0][field] = Value::Null;
        }
        rows
    };
    let args = |id: &'static str| ["cleanup", "--id", id, "--include-governed", "--yes", "-o", "json"];
    assert_eq!(done(remote.run(&args("1"))), done(jobexec(&remote.world, &args("6"))));
    let table = remote.run(&["cleanup", "--max-hours", "2", "--yes"]);
    let lines = table.lines(0);
    assert!(
        lines.contains(&"3 3 1 30.0 h skipped Extended: JobExecution/slow gives it 20h more -".to_owned()),
        "{lines:?}"
    );
    assert!(
        lines.contains(&"5 5 1 30.0 h cancelled DeadlineExceeded ExecutionPolicy/called-off".to_owned()),
        "{lines:?}"
    );
    assert!(lines.contains(&"7 7 1 3.0 h failed ManualCleanup HttpApi".to_owned()), "{lines:?}");
    assert!(lines.contains(&"Successfully cleaned up 2 stale executions".to_owned()), "{lines:?}");
    assert_eq!(remote.world.status(4).await, "running");

    for args in [&["history", "--id", "1"][..], &["history", "--job", "6"], &["history", "--limit", "2"]] {
        same(&remote, args, &["json"]);
    }
    same(&remote, &["history", "--id", "7"], &ALL);
    let actor = |id: &str| {
        remote.run(&["history", "--id", id, "--limit", "1", "-o", "json"]).json(0)[0]["actor"].take()
    };
    assert_eq!(actor("7"), remote.world.user(super::ADMINISTRATOR));
    assert_eq!(
        actor("6"),
        jobexec(&remote.world, &["history", "--id", "6", "-o", "json"]).json(0)[0]["actor"]
    );
}

#[tokio::test]
async fn many_are_printed_page_by_page() {
    let world = World::new("remotemany").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, n % 7, n, 'running', \
                 CASE WHEN n % 50 > 0 THEN now() - interval '30 hours' + n / 40 * interval '5 minutes' END \
             FROM generate_series(1, 1500) n",
        )
        .await;
    let remote = Remote::of(world, &[]).await;
    for args in [&["list"][..], &["list", "--all", "--limit", "1200"], &["list", "--limit", "101"]] {
        same(&remote, args, &["name"]);
    }
    // More than one response contains: the rest is mentioned and counted.
    let dry = remote.run(&["cleanup", "--max-hours", "1", "--dry-run"]);
    assert_eq!(dry.ended(0).lines().count(), 1_002, "{}", dry.err);
    let direct = jobexec(&remote.world, &["cleanup", "--max-hours", "1", "--dry-run"]);
    assert_eq!(dry.out.lines().last(), direct.out.lines().last());
    assert!(dry.err.contains("not printed, because the API lists only the first 1000"), "{}", dry.err);
    // Ids are sent in chunks, so that each gets a result.
    let ids: Vec<String> = (1..=1_500).flat_map(|id| ["--id".to_owned(), id.to_string()]).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    same(&remote, &[&["cleanup", "--dry-run"], &ids[..]].concat(), &["name"]);

    // A reader that stops early is not an error.
    let mut child = remote.command(&["list"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert!(line.starts_with("ID "), "{line}");
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn it_asks_before_the_operator_writes() {
    if needs("cli::remote", Part::Debian("bsdutils"), program("script")).is_none() {
        return;
    }
    let remote = Remote::of(stale("remoteasks").await, &[]).await;
    let world = &remote.world;
    let args = format!("cleanup --store {}", world.named("jobs"));
    let env = [
        ("KUBECONFIG", remote.kubeconfig.as_str()),
        ("JOBEXEC_OPERATOR_NAMESPACE", world.namespace.as_str()),
    ];
    let (code, text) = on_terminal(world, &args, "n\n", &env);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("would be failed") && text.contains("Clean up 1 execution? [y/N]"), "{text}");
    assert_eq!(world.status(1).await, "running");
    let (code, text) = on_terminal(world, &args, "y\n", &env);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Successfully cleaned up 1 stale execution"), "{text}");
    assert_eq!(world.status(1).await, "failed");
}
