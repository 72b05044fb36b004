//! Mistakes in the input, and obstacles for the database.

use std::process::Command;

use super::{Ran, jobexec, on_table};
use crate::support::World;

#[tokio::test]
async fn what_is_wrong_is_said_with_what_to_do() {
    let world = World::new("input").await;
    world
        .sql(
            "INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '40 minutes', NULL), \
             (2, 1, 2, 'completed', now() - interval '2 hours', now())",
        )
        .await;
    for (args, code, told) in [
        (&["cleanup", "--max-hours", "-1", "--yes"][..], 2, "write how many hours, more than 0"),
        (&["cleanup", "--max-hours", "0", "--yes"], 2, "write how many hours, more than 0"),
        (&["cleanup", "--max-hours", "NaN", "--yes"], 2, "write how many hours, more than 0"),
        (&["cleanup", "--max-hours", "inf", "--yes"], 2, "write how many hours, more than 0"),
        (&["cleanup", "--older-than", "0s", "--yes"], 2, "must be longer than 0"),
        (&["cleanup", "--older-than", "1.5h", "--yes"], 2, "is not a duration"),
        (&["cleanup", "--older-than", "1h", "--max-hours", "1"], 2, "cannot be used with"),
        (&["cleanup", "--include-governed", "--yes"], 2, "needs --max-hours, --older-than or --id"),
        (&["cleanup"], 2, "give --yes to clean up, or --dry-run"),
        (&["cleanup", "--id", "1 OR 1=1", "--yes"], 1, ": the ids of this table are of type bigint"),
        (&["cleanup", "--id", "%", "--yes"], 1, "invalid id \"%\""),
        (&["list", "--job", "_"], 1, "invalid job id \"_\""),
        (&["list", "--limit", "0"], 2, "0 is not in 1.."),
        (&["list", "-o", "xml"], 2, "possible values: table, wide, json, yaml, name"),
        (&["list", "-f", "/nonexistent.yaml"], 1, "cannot read /nonexistent.yaml"),
        (&["explain", "39"], 1, "execution 39 does not exist in the table"),
        (&["cancel", "39"], 1, "execution 39 does not exist in the table"),
        (&["cancel", "2"], 1, "execution 2 has already ended with status completed"),
        (&["extend", "2", "--by", "1h"], 1, "execution 2 has already ended with status completed"),
        (&["extend", "39", "--by", "1h"], 1, "execution 39 does not exist in the table"),
        (&["extend", "1", "--by", "-1h"], 2, "unexpected argument '-1'"),
        (&["resume", "--store", "jobs"], 2, "write NAMESPACE/NAME"),
        (&["completions", "tcsh"], 2, "possible values: bash, zsh, fish"),
    ] {
        let run = if args.contains(&"--store") || args[0] == "completions" { jobexec } else { on_table };
        let ran = run(&world, args);
        assert_eq!(ran.code, Some(code), "{args:?}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains(told), "{args:?}: {}", ran.err);
    }
    assert_eq!(world.status(1).await, "running");
    let half = on_table(&world, &["cleanup", "--max-hours", "0.5", "--yes"]);
    assert!(half.ended(0).contains("Successfully cleaned up 1 stale execution"), "{}", half.out);
    assert_eq!(world.status(1).await, "failed");
    assert_eq!(
        on_table(&world, &["cleanup", "--max-hours", "0.5", "--yes", "--id", "2", "--id", "1"]).code,
        Some(0)
    );
}

#[tokio::test]
async fn an_id_that_is_none_is_told_before_anything_is_written() {
    let world = World::new("idfirst").await;
    let ran = on_table(&world, &["cleanup", "--id", "%", "--yes"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(!ran.err.contains("not recorded"), "{}", ran.err);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.stores").await, 0);
}

fn without_database(args: &[&str], url: Option<&str>) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobexec"));
    command.args(args).env_remove("DATABASE_URL");
    if let Some(url) = url {
        command.env("DATABASE_URL", url);
    }
    Ran::of(command.output().unwrap())
}

#[tokio::test]
async fn a_database_that_cannot_be_reached() {
    let nobody = "postgres://u:secret@127.0.0.1:1/db?sslmode=disable";
    for (url, told) in [
        (None, "set DATABASE_URL"),
        (Some("mysql://x"), "invalid database URL"),
        (Some(nobody), "cannot reach"),
    ] {
        for (args, code) in [
            (&["health"][..], 2),
            (&["list"], 1),
            (&["history"], 1),
            (&["explain", "1"], 1),
            (&["cleanup", "--yes"], 1),
            (&["cleanup", "--dry-run"], 1),
            (&["cancel", "1"], 1),
            (&["resume"], 1),
        ] {
            let ran = without_database(args, url);
            assert_eq!(ran.code, Some(code), "{args:?} {url:?}: {}", ran.err);
            assert!(ran.err.contains(told) && !ran.err.contains("secret"), "{args:?}: {}", ran.err);
        }
    }
    let world = World::new("unreachable").await;
    let wrong = without_database(&["health"], Some(&world.url("wrong")));
    assert!(
        wrong.ended(2).is_empty() && wrong.err.contains("password authentication failed"),
        "{}",
        wrong.err
    );
}

#[tokio::test]
async fn health_tells_by_its_exit_status() {
    let world = World::new("health").await;
    assert!(jobexec(&world, &["health"]).lines(0)[1].starts_with("healthy 0 0 0 0 0"));
    world.sql("INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '2 hours' FROM generate_series(1, 5) n").await;
    assert!(jobexec(&world, &["health"]).lines(0)[1].starts_with("healthy 5 0 5 0 5"));
    world.sql("INSERT INTO job_executions VALUES (6, 1, 1, 'running', now() - interval '2 hours'), (7, 1, 2, 'scheduled', NULL)").await;
    assert!(jobexec(&world, &["health"]).lines(1)[1].starts_with("warning 6 1 6 0 6"));
    world.sql("DELETE FROM job_executions WHERE id < 7; INSERT INTO job_executions VALUES (8, 1, 1, 'running', now() - interval '25 hours')").await;
    assert!(jobexec(&world, &["health"]).lines(1)[1].starts_with("warning 1 1 1 1 0"));
    assert_eq!(jobexec(&world, &["health", "-o", "name"]).ended(1), "warning\n");
}

#[test]
fn the_name_changes_the_usage_line_only() {
    use std::os::unix::process::CommandExt as _;
    let usage = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jobexec"));
        let ran = Ran::of(command.arg0(name).args(["list", "--help"]).output().unwrap());
        ran.ended(0).lines().find(|line| line.starts_with("Usage:")).unwrap().to_owned()
    };
    assert_eq!(usage("/usr/bin/jobexec"), "Usage: jobexec list [OPTIONS]");
    assert_eq!(usage("/usr/bin/kubectl-jobexec"), "Usage: kubectl jobexec list [OPTIONS]");
}

#[test]
fn completions_are_printed() {
    for (shell, word) in
        [("bash", "complete -F"), ("zsh", "#compdef jobexec"), ("fish", "complete -c jobexec")]
    {
        let ran = without_database(&["completions", shell], None);
        assert!(ran.ended(0).contains(word), "{shell}");
    }
}
