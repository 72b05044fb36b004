//! On a terminal it asks for confirmation, and uses colours.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::support::World;
use crate::support::machine::{Part, needs, program};

/// Runs it on a terminal of its own, and sends the answer.
pub(super) fn on_terminal(
    world: &World,
    args: &str,
    answer: &str,
    env: &[(&str, &str)],
) -> (Option<i32>, String) {
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command"])
        .arg(format!("{} {args}", env!("CARGO_BIN_EXE_jobexec")))
        .arg("/dev/null")
        .env("DATABASE_URL", world.url("right/password"))
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.as_mut().unwrap().write_all(answer.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn it_asks_before_it_writes() {
    if needs("cli::terminal", Part::Debian("bsdutils"), program("script")).is_none() {
        return;
    }
    let world = World::new("terminal").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '30 hours')").await;
    let cleanup = "cleanup --table public.job_executions";
    for answer in ["n\n", "\n", "what?\n"] {
        let (code, text) = on_terminal(&world, cleanup, answer, &[]);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("would be failed") && text.contains("Clean up 1 execution? [y/N]"), "{text}");
        assert!(text.contains("nothing was changed"), "{text}");
        assert_eq!(world.status(1).await, "running");
    }
    let (code, text) = on_terminal(&world, cleanup, "y\n", &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Successfully cleaned up 1 stale execution"), "{text}");
    assert_eq!(world.status(1).await, "failed");
    // Without anything to do there is no question.
    let (code, text) = on_terminal(&world, cleanup, "", &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Nothing is stale") && !text.contains("[y/N]"), "{text}");
}

/// The output contains only what was done; the questions go to the terminal.
#[tokio::test]
async fn a_program_reads_what_was_done_and_not_what_was_asked() {
    if needs("cli::terminal", Part::Debian("bsdutils"), program("script")).is_none() {
        return;
    }
    let world = World::new("terminalfile").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '30 hours')").await;
    let file = world.file("out", "");
    let run = |args: &str, answer: &str| {
        let (code, text) = on_terminal(
            &world,
            &format!("cleanup --table public.job_executions {args} > {file}"),
            answer,
            &[],
        );
        (code, text, std::fs::read_to_string(&file).unwrap())
    };
    let (code, text, out) = run("-o json", "n\n");
    assert!(text.contains("would be failed") && text.contains("Clean up 1 execution? [y/N]"), "{text}");
    assert_eq!((code, out.as_str()), (Some(1), ""), "{text}");
    let (code, text, out) = run("-o json", "y\n");
    assert_eq!(code, Some(0), "{text}");
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"));
    assert_eq!((rows[0]["id"].as_str(), rows[0]["completed_at"].is_string()), (Some("1"), true), "{rows:#}");
    assert_eq!(rows.as_array().unwrap().len(), 1, "{rows:#}");
    // A skipped execution needs no question, and is reported.
    let (code, text, out) = run("-o json --id 1", "");
    assert!(code == Some(0) && !text.contains("[y/N]"), "{text}");
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"));
    assert_eq!(rows[0]["skipped"]["reason"], "NotRunning", "{rows:#}");
}

#[tokio::test]
async fn colours_are_for_terminals_that_want_them() {
    if needs("cli::terminal", Part::Debian("bsdutils"), program("script")).is_none() {
        return;
    }
    let world = World::new("colours").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '30 hours')").await;
    for (env, coloured) in [
        (&[][..], true),
        (&[("NO_COLOR", "1")], false),
        (&[("NO_COLOR", "")], true),
        (&[("TERM", "dumb")], false),
    ] {
        let (code, text) = on_terminal(&world, "list", "", env);
        assert_eq!(code, Some(0), "{text}");
        assert_eq!(text.contains("\x1b[31mDeadlineExceeded\x1b[0m"), coloured, "{env:?} {text}");
        assert_eq!(text.contains('\x1b'), coloured, "{env:?} {text}");
    }
}
