//! The commands `jobexec extend`, `jobexec cancel` and `jobexec resume`, with and without a cluster.

use std::process::Stdio;

use jobexec_operator::api::{ExecutionStore, JobExecution};
use serde_json::json;

use super::{TABLE, command, jobexec, on_table};
use crate::support::{World, is};

#[tokio::test]
async fn an_extension_without_an_object_outlives_the_operators_rules() {
    let world = World::new("extend").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '30 hours' FROM generate_series(1, 3) n",
        )
        .await;
    for id in ["1", "3"] {
        let ran = on_table(&world, &["extend", id, "--by", "12h"]);
        assert_eq!(ran.ended(0), format!("execution {id} is extended by 12h\n"));
    }
    // The extension already counts, and only once.
    let again = on_table(&world, &["extend", "1", "--by", "12h", "-o", "json"]).json(0);
    assert_eq!(
        (&again[0]["id"], &again[0]["message"]),
        (&json!("1"), &json!("execution 1 is extended by 12h"))
    );
    assert_eq!(jobexec(&world, &["list", "--overdue", "-o", "name"]).ended(0), "2\n");
    let operator = world.operator();
    world.execution("own", "3", json!({"timeout": "25h"})).await;
    world.store(json!({})).await;
    world.execution_until(&operator, "own", |s| is(&s.conditions, "Accepted", "True", "InForce")).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
    // The rules in effect are written again, with a timeout in addition to the extension, and once more without it.
    let policy = json!({"selector": {"jobIds": ["1"]}, "timeout": "20h"});
    world.policy("short", policy).await;
    world.policy_until(&operator, "short", |s| is(&s.conditions, "Accepted", "True", "InForce")).await;
    world.delete::<JobExecution>("own").await;
    world.until_true("SELECT timeout IS NULL AND extend_by = '12h' FROM jobexec.rules WHERE scope = 'execution' AND key = '3'").await;
    world.request_sweep(&operator).await;
    assert_eq!((world.status(1).await, world.status(3).await), ("running".to_owned(), "running".to_owned()));

    let explained = jobexec(&world, &["explain", "1"]).lines(0);
    let who = explained.iter().find(|line| line.starts_with("* extendBy")).unwrap();
    assert!(who.starts_with("* extendBy 12h CommandLine/"), "{who}");
    assert!(
        explained
            .iter()
            .any(|line| line.contains("DeadlineMoved (ExtendRequested) on behalf of CommandLine/")),
        "{explained:?}"
    );
    assert!(
        explained.iter().any(|line| line == "* timeout 20h ExecutionPolicy/short the most specific"),
        "{explained:?}"
    );

    // An object with an extension takes precedence, and is not overwritten.
    world.execution("more", "1", json!({"extendBy": "15h"})).await;
    world.execution_until(&operator, "more", |s| is(&s.conditions, "Accepted", "True", "InForce")).await;
    let ran = jobexec(&world, &["extend", "1", "--by", "1h"]);
    assert!(
        ran.ended(1).is_empty() && ran.err.contains("JobExecution/more already extends execution 1"),
        "{}",
        ran.err
    );

    // The rule is deleted once the execution has ended.
    world.sql("UPDATE job_executions SET status = 'completed', completed_at = now() WHERE id = 3").await;
    world.sql("INSERT INTO job_executions VALUES (4, 4, 1, 'running', now())").await;
    jobexec(&world, &["extend", "4", "--by", "1h"]).ended(0);
    world
        .until_true(
            "SELECT array_agg(key ORDER BY key) = '{1,4}' FROM jobexec.rules WHERE scope = 'execution'",
        )
        .await;
}

#[tokio::test]
async fn cancelled_in_the_database() {
    let world = World::new("cancel").await;
    world
        .sql(
            "INSERT INTO job_executions VALUES (1, 1, 1, 'running', now(), NULL), (2, 1, 2, 'scheduled', NULL, NULL), \
             (3, 1, 3, 'completed', now(), now()), (4, 1, 4, 'running', now(), NULL)",
        )
        .await;
    let mut worker = world.pool.begin().await.unwrap();
    sqlx::query("UPDATE job_executions SET status = 'completed' WHERE id = 4")
        .execute(&mut *worker)
        .await
        .unwrap();
    let ran = on_table(&world, &["cancel", "1", "2", "3", "4"]);
    assert_eq!(ran.ended(1), "execution 1 is cancelled\nexecution 2 is cancelled\n");
    assert_eq!(on_table(&world, &["cancel", "3", "-o", "json"]).json(1), json!([]));
    assert!(ran.err.contains("execution 3 has already ended with status completed"), "{}", ran.err);
    assert!(ran.err.contains("another transaction has locked execution 4"), "{}", ran.err);
    worker.commit().await.unwrap();
    let recorded = "SELECT count(*) = 2 FROM jobexec.events WHERE action = 'Cancelled' AND reason = 'CancelRequested' \
                    AND source = 'CommandLine' AND actor LIKE '%@%'";
    assert!(world.one::<bool>(recorded).await);
    let ended = "SELECT bool_and(completed_at IS NOT NULL) FROM job_executions WHERE status = 'cancelled'";
    assert!(world.one::<bool>(ended).await);
}

/// Runs it with an output that is closed early, as by `head`.
fn unread(world: &World, args: &[&str]) -> (Option<i32>, String) {
    use std::io::Read as _;
    let mut child = command(world, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (child.wait().unwrap().code(), err)
}

#[tokio::test]
async fn what_is_asked_for_is_done_whoever_reads_of_it() {
    let world = World::new("unread").await;
    world
        .sql(
            "INSERT INTO job_executions VALUES (1, 1, 1, 'running', now(), NULL), (2, 1, 2, 'completed', now(), now()), \
             (3, 1, 3, 'running', now(), NULL)",
        )
        .await;
    world.store(json!({})).await;
    let store = format!("{}/jobs", world.namespace);
    for (format, ids) in [("table", ["11", "12", "13"]), ("json", ["21", "22", "23"])] {
        let ran = unread(&world, &[&["cancel", "--store", &store, "-o", format], &ids[..]].concat());
        assert_eq!(ran, (Some(0), String::new()));
        for id in ids {
            let execution = world.api::<JobExecution>().get(&format!("jobs-{id}")).await.unwrap();
            assert_eq!(execution.spec.cancel, Some(true), "{id}");
        }
    }
    let ran = unread(&world, &["extend", "7", "--by", "6h", "--store", &store]);
    assert_eq!(ran, (Some(0), String::new()));
    // An execution that was not cancelled is reported nevertheless.
    let (code, err) = unread(&world, &[&["cancel", "1", "2", "3"], &TABLE[..]].concat());
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("execution 2 has already ended with status completed"), "{err}");
    assert_eq!(
        (world.status(1).await, world.status(3).await),
        ("cancelled".to_owned(), "cancelled".to_owned())
    );
}

#[tokio::test]
async fn resumed_in_the_database() {
    let world = World::new("resume").await;
    let ran = jobexec(&world, &["resume"]);
    assert!(ran.ended(1).is_empty() && ran.err.contains("has no records of this table"), "{}", ran.err);
    let operator = world.operator();
    world.sql("INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '30 hours' FROM generate_series(1, 3) n").await;
    world.store(json!({"maxFailuresPerSweep": 2})).await;
    world.store_until(&operator, |s| is(&s.conditions, "EnforcementPaused", "True", "BreakerOpen")).await;
    operator.kill();
    let ran = jobexec(&world, &["resume"]);
    assert!(ran.ended(0).starts_with("the circuit breaker is closed again (it was open: "), "{}", ran.out);
    assert_eq!(
        jobexec(&world, &["resume"]).ended(0),
        "the circuit breaker is closed: enforcement is not paused\n"
    );
    // The circuit breaker does not affect a manual clean-up.
    world.sql("UPDATE jobexec.stores SET paused_at = now()").await;
    assert_eq!(jobexec(&world, &["cleanup", "--yes", "-o", "name"]).ended(0).lines().count(), 3);
}

#[tokio::test]
async fn to_ask_again_for_what_is_not_carried_out_is_no_success() {
    let world = World::new("askagain").await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now(), NULL)").await;
    let operator = world.operator();
    world.store(json!({"mode": "Observe"})).await;
    let store = format!("{}/jobs", world.namespace);
    let ask = || jobexec(&world, &["cancel", "1", "--store", &store]);
    assert_eq!(ask().ended(0), "jobexecution/jobs-1: cancel requested\n");
    world.execution_until(&operator, "jobs-1", |s| is(&s.conditions, "Accepted", "False", "Observing")).await;
    let again = ask();
    assert!(again.ended(1).is_empty() && again.err.contains("withdraw it"), "{}", again.err);
    assert_eq!(world.status(1).await, "running");
}

#[tokio::test]
async fn said_to_the_objects_of_a_cluster() {
    let world = World::new("intent").await;
    world.store(json!({})).await;
    world.execution("nightly", "7", json!({"timeout": "5h"})).await;
    let store = format!("{}/jobs", world.namespace);
    let run = |args: &[&str]| jobexec(&world, &[args, &["--store", &store]].concat());
    // The existing object is changed, and its other fields stay.
    assert_eq!(run(&["extend", "7", "--by", "6h"]).ended(0), "jobexecution/nightly: extendBy 6h\n");
    assert_eq!(run(&["extend", "39", "--by", "90m"]).ended(0), "jobexecution/jobs-39: extendBy 1h30m\n");
    assert_eq!(run(&["cancel", "39"]).ended(0), "jobexecution/jobs-39: cancel requested\n");
    assert!(run(&["cancel", "a,b=\\c"]).ended(0).starts_with("jobexecution/jobs-x"));
    let spec = async |name: &str| {
        serde_json::to_value(world.api::<JobExecution>().get(name).await.unwrap().spec).unwrap()
    };
    assert_eq!(
        spec("nightly").await,
        json!({"storeRef": {"name": "jobs"}, "executionId": "7", "timeout": "5h", "extendBy": "6h"})
    );
    assert_eq!(
        spec("jobs-39").await,
        json!({"storeRef": {"name": "jobs"}, "executionId": "39", "extendBy": "90m", "cancel": true})
    );
    assert_eq!(run(&["resume"]).ended(0), "executionstore/jobs: resume requested\n");
    let object = world.api::<ExecutionStore>().get("jobs").await.unwrap();
    assert!(object.metadata.annotations.unwrap().contains_key("jobexec.dev/resume"));
    let ran = jobexec(&world, &["resume", "--store", &format!("{}/nothing", world.namespace)]);
    assert!(
        ran.ended(1).is_empty() && ran.err.contains("ExecutionStore nothing does not exist"),
        "{}",
        ran.err
    );
}
