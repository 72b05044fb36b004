//! `ExecutionPolicy` objects: their precedence, and how soon they take effect.

use jobexec_operator::api::{ExecutionPolicy, ExecutionStore, JobExecution};
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::support::{Operator, World, is, message};

/// The default table with a column for the job's type.
const TYPED: &str = "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint NOT NULL, \
     execution_number integer NOT NULL, status text NOT NULL, started_at timestamptz, completed_at timestamptz, kind text)";

/// A store of [`TYPED`].
fn typed() -> Value {
    json!({"table": {"columns": {"jobType": "kind"}}})
}

/// Starts a row that has run for this long.
async fn start(world: &World, id: i64, job: i64, kind: &str, age: &str) {
    world
        .sql(&format!(
            "INSERT INTO job_executions (id, job_id, execution_number, status, started_at, kind) \
             VALUES ({id}, {job}, {id}, 'running', now() - interval '{age}', '{kind}')"
        ))
        .await;
}

async fn accepted(world: &World, operator: &Operator, name: &str) {
    world.policy_until(operator, name, |s| is(&s.conditions, "Accepted", "True", "InForce")).await;
}

/// Each ended row, with the source of its timeout.
const ENDED: &str = "SELECT COALESCE(string_agg(execution_id || ' ' || source, ', ' ORDER BY execution_id::bigint), '') \
     FROM jobexec.events WHERE action = 'Failed'";

#[tokio::test]
async fn the_most_specific_timeout_counts() {
    let world = World::with("specific", TYPED, &typed()).await;
    // A more specific timeout is longer, so that a row that reaches its own timeout has exceeded all others. Of each
    // pair, one row is just past its timeout and one is not yet.
    for (id, job, kind, hours) in [(1, 1, "a", 20), (3, 1, "a", 16), (5, 2, "a", 12), (7, 3, "b", 8)] {
        start(&world, id, job, kind, &format!("{hours} hours 1 minute")).await;
        start(&world, id + 1, job, kind, &format!("{hours} hours -10 minutes")).await;
    }
    // No type at all, which must not exclude it from the policy for all.
    start(&world, 9, 3, "b", "7 hours").await;
    world.sql("UPDATE job_executions SET kind = NULL WHERE id = 9").await;
    for id in ["1", "2"] {
        world.execution(&format!("own-{id}"), id, json!({"timeout": "20h"})).await;
    }
    world.policy("all", json!({"timeout": "8h"})).await;
    world.policy("type", json!({"timeout": "12h", "selector": {"jobTypes": ["a"]}})).await;
    world.policy("job", json!({"timeout": "16h", "selector": {"jobIds": ["1"]}})).await;
    let mut spec = typed();
    spec["defaultTimeout"] = json!("4h");
    spec["pollInterval"] = json!("10m");
    world.store(spec).await;
    let operator = world.operator();
    world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    assert_eq!(
        world.one::<String>(ENDED).await,
        "1 JobExecution/own-1, 3 ExecutionPolicy/job, 5 ExecutionPolicy/type, 7 ExecutionPolicy/all"
    );
    for (name, governed) in [("job", 1), ("type", 1), ("all", 2)] {
        let status = world.policy_until(&operator, name, |s| s.governed_executions == Some(governed)).await;
        assert!(is(&status.conditions, "Accepted", "True", "InForce"), "{name}: {:#?}", status.conditions);
        assert!(is(&status.conditions, "StoreFound", "True", "StoreFound"));
    }

    // A deleted policy leaves its executions to the next one, at once although there is no poll.
    world.delete::<ExecutionPolicy>("job").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 4").await;
    world.delete::<JobExecution>("own-2").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
    world.delete::<ExecutionPolicy>("type").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 6").await;
    world.delete::<ExecutionPolicy>("all").await;
    world.until_true("SELECT count(*) = 0 FROM job_executions WHERE status = 'running'").await;
    let ended: String = world.one(ENDED).await;
    for part in
        ["2 ExecutionPolicy/type", "4 ExecutionPolicy/type", "6 ExecutionPolicy/all", "8 ExecutionStore/jobs"]
    {
        assert!(ended.contains(part), "{part} not in {ended}");
    }
}

#[tokio::test]
async fn a_type_that_only_the_table_of_jobs_knows_selects() {
    let spec = json!({"jobs": {"columns": {"type": "kind"}}});
    let tables = "CREATE TABLE jobs (id bigint PRIMARY KEY, status text NOT NULL, kind text); \
         INSERT INTO jobs VALUES (1, 'running', 'nightly'), (2, 'running', 'hourly'), (3, 'running', NULL)";
    let world = World::with("jobtypes", &format!("{};{tables}", crate::support::world::TABLE), &spec).await;
    world
        .sql("INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '3 hours' FROM generate_series(1, 4) n")
        .await;
    world.policy("hourly", json!({"timeout": "2h", "selector": {"jobTypes": ["hourly", "other"]}})).await;
    world.store(spec).await;
    let operator = world.operator();
    world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    assert_eq!(world.one::<String>(ENDED).await, "2 ExecutionPolicy/hourly");
    // The other way round: the longer timeout of the type protects its executions.
    world.policy("nightly", json!({"timeout": "99h", "selector": {"jobTypes": ["nightly"]}})).await;
    world.policy("all", json!({"timeout": "1h"})).await;
    world.until_true("SELECT count(*) = 3 FROM job_executions WHERE status = 'failed'").await;
    assert_eq!(world.status(1).await, "running");
    world.policy_until(&operator, "nightly", |s| s.governed_executions == Some(1)).await;
}

#[tokio::test]
async fn each_field_counts_for_itself() {
    let spec =
        json!({"table": {"columns": {"jobType": "kind", "heartbeatAt": "beat"}}, "pollInterval": "1s"});
    let world =
        World::with("fields", &TYPED.replace("kind text", "kind text, beat timestamptz"), &spec).await;
    // Past its timeout, and within the grace period of another policy.
    start(&world, 1, 1, "a", "70 minutes").await;
    start(&world, 2, 1, "a", "100 minutes").await;
    // A third policy makes its heartbeat lost.
    start(&world, 3, 1, "a", "10 minutes").await;
    world.sql("UPDATE job_executions SET beat = now() - interval '9 minutes' WHERE id = 3").await;
    world.policy("timeout", json!({"timeout": "1h", "selector": {"jobIds": ["1"]}})).await;
    world.policy("grace", json!({"gracePeriod": "30m", "selector": {"jobTypes": ["a"]}})).await;
    world.policy("heartbeat", json!({"heartbeatTimeout": "1s", "warnAfter": {"timeoutPercent": 50}})).await;
    world.store(spec).await;
    let operator = world.operator();
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 3").await;
    let ended = "SELECT string_agg(concat_ws(' ', execution_id, reason, source), ', ' ORDER BY execution_id) \
         FROM jobexec.events WHERE action = 'Failed'";
    assert_eq!(
        world.one::<String>(ended).await,
        "2 DeadlineExceeded ExecutionPolicy/timeout, 3 HeartbeatLost ExecutionPolicy/heartbeat"
    );
    assert_eq!(world.status(1).await, "running", "its grace is from another policy than its timeout");
    for name in ["timeout", "grace", "heartbeat"] {
        accepted(&world, &operator, name).await;
    }
}

#[tokio::test]
async fn of_equals_the_older_counts_and_then_the_name() {
    let world = World::new("equals").await;
    world
        .sql("INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '3 hours' FROM generate_series(1, 3) n")
        .await;
    let both = json!({"jobIds": ["1", "2"]});
    let made = |policy: ExecutionPolicy| policy.metadata.creation_timestamp.unwrap().0;
    // The older one has the name that comes last.
    let old = made(world.policy("z-old", json!({"timeout": "90h", "selector": both})).await);
    // Times of creation are whole seconds.
    let younger = loop {
        let spec = json!({"timeout": "1h", "gracePeriod": "1h", "selector": {"jobIds": ["1", "3"]}});
        let at = made(world.policy("a-young", spec).await);
        if at > old {
            break at;
        }
        world.api::<ExecutionPolicy>().delete("a-young", &DeleteParams::default()).await.unwrap();
    };
    assert!(younger > old);
    let operator = world.operator();
    world.store(json!({"pollInterval": "10m"})).await;
    let told = world
        .policy_until(&operator, "a-young", |s| is(&s.conditions, "Accepted", "False", "Overridden"))
        .await;
    let text = message(&told.conditions, "Accepted");
    assert!(
        text.contains("ExecutionPolicy z-old is older") && text.contains("its timeout counts for \"1\""),
        "{text}"
    );
    accepted(&world, &operator, "z-old").await;
    // Fields without a conflict are in effect: job 3's timeout with its grace, and job 1's grace.
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 3").await;
    world.until_true("SELECT grace_source = 'ExecutionPolicy/a-young' FROM jobexec.rules WHERE scope = 'job' AND key = '1'").await;
    assert_eq!((world.status(1).await, world.status(2).await), ("running".into(), "running".into()));

    // Of two with the same age, the name decides; they are created again until two have the same age.
    loop {
        let first =
            made(world.policy("b", json!({"onStale": "AlertOnly", "selector": {"jobIds": ["2"]}})).await);
        let second =
            made(world.policy("a", json!({"onStale": "Cancel", "selector": {"jobIds": ["2"]}})).await);
        if first == second {
            break;
        }
        world.delete::<ExecutionPolicy>("a").await;
        world.delete::<ExecutionPolicy>("b").await;
    }
    let told =
        world.policy_until(&operator, "b", |s| is(&s.conditions, "Accepted", "False", "Overridden")).await;
    let text = message(&told.conditions, "Accepted");
    assert!(text.contains("ExecutionPolicy a ") && text.contains("onStale counts for \"2\""), "{text}");
    accepted(&world, &operator, "a").await;

    // Without the winner, the timeout of the other one takes effect at once.
    world.delete::<ExecutionPolicy>("z-old").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    accepted(&world, &operator, "a-young").await;
    assert_eq!(world.status(2).await, "running");
}

#[tokio::test]
async fn a_policy_that_is_changed_counts_at_once_and_one_may_come_before_its_store() {
    let world = World::new("atonce").await;
    world
        .sql("INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '3 hours' FROM generate_series(1, 3) n")
        .await;
    let operator = world.operator();
    world.policy("p", json!({"timeout": "2h", "selector": {"jobIds": ["1"]}})).await;
    let early = world
        .policy_until(&operator, "p", |s| is(&s.conditions, "StoreFound", "False", "StoreNotFound"))
        .await;
    assert!(is(&early.conditions, "Accepted", "Unknown", "StoreNotFound"), "{:#?}", early.conditions);
    assert!(message(&early.conditions, "StoreFound").contains("no ExecutionStore jobs"));

    world.store(json!({"pollInterval": "10m"})).await;
    world.execution("two", "2", json!({})).await;
    world.policy_until(&operator, "p", |s| is(&s.conditions, "StoreFound", "True", "StoreFound")).await;
    accepted(&world, &operator, "p").await;
    assert_eq!(world.one::<String>(ENDED).await, "1 ExecutionPolicy/p");
    world.execution_until(&operator, "two", |s| s.timeout.as_deref() == Some("24h")).await;

    world.policy("p", json!({"timeout": "4h", "selector": {"jobIds": ["2"]}})).await;
    world
        .execution_until(&operator, "two", |s| s.timeout_source.as_deref() == Some("ExecutionPolicy/p"))
        .await;
    world.policy_until(&operator, "p", |s| s.governed_executions == Some(1)).await;
    world.policy("p", json!({"timeout": "179m", "selector": {"jobIds": ["2"]}})).await;
    let ended =
        world.execution_until(&operator, "two", |s| is(&s.conditions, "Finished", "True", "Failed")).await;
    assert!(message(&ended.conditions, "Succeeded").ends_with("the timeout is from ExecutionPolicy/p"));
    // A new policy, and one that covers all.
    world.policy("all", json!({"timeout": "1h"})).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 3").await;
    world.policy_until(&operator, "p", |s| s.governed_executions == Some(0)).await;

    let shown = std::process::Command::new("kubectl")
        .args(["get", "expolicy", "-n", &world.namespace])
        .output()
        .unwrap();
    let table = String::from_utf8(shown.stdout).unwrap();
    assert!(table.starts_with("NAME") && table.lines().count() == 3, "{table}");
    for part in ["ACCEPTED", "TIMEOUT", "ON STALE", "GOVERNED", "COMPUTED", "179m", "InForce"] {
        assert!(table.contains(part), "{part} not in {table}");
    }
    assert!(table.lines().all(|line| line.trim_end().len() <= 120), "{table}");
}

#[tokio::test]
async fn what_a_store_cannot_do_stops_nothing_else() {
    let world = World::new("cannot").await;
    world
        .sql("INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '3 hours' FROM generate_series(1, 3) n")
        .await;
    let operator = world.operator();
    world
        .policy(
            "bad-id",
            json!({"timeout": "2h", "selector": {"jobIds": ["abc", "99999999999999999999", "+01"]}}),
        )
        .await;
    world.policy("only-bad", json!({"timeout": "1m", "selector": {"jobIds": ["x"]}})).await;
    world.policy("no-types", json!({"timeout": "1m", "selector": {"jobTypes": ["a"]}})).await;
    world
        .policy("some-types", json!({"timeout": "2h", "selector": {"jobTypes": ["a"], "jobIds": ["2"]}}))
        .await;
    world.policy("beats", json!({"heartbeatTimeout": "1m"})).await;
    world.policy("per-type", json!({"dynamicTimeout": {"per": "JobType"}})).await;
    world.store(json!({})).await;
    world.store_until(&operator, |s| s.last_sweep.is_some()).await;
    for (name, reason, part) in [
        (
            "bad-id",
            "InvalidSelector",
            "selector.jobIds has 2 that are no ids of jobs of this table, for example \"abc\"",
        ),
        ("only-bad", "InvalidSelector", "\"x\""),
        ("no-types", "InvalidSelector", "Name table.columns.jobType or jobs.columns.type"),
        ("some-types", "InvalidSelector", "selector.jobTypes selects nothing"),
        ("beats", "NotSupported", "Set table.columns.heartbeatAt, table.columns.checkpointAt or heartbeat"),
        ("per-type", "NotSupported", "Name table.columns.jobType"),
    ] {
        let told =
            world.policy_until(&operator, name, |s| is(&s.conditions, "Accepted", "False", reason)).await;
        assert!(message(&told.conditions, "Accepted").contains(part), "{:#?}", told.conditions);
    }
    assert_eq!(world.one::<String>(ENDED).await, "1 ExecutionPolicy/bad-id, 2 ExecutionPolicy/some-types");
    assert_eq!(world.status(3).await, "running", "a selector of which nothing is left does not select all");

    // Fixed without a restart.
    world.sql("ALTER TABLE job_executions ADD kind text; UPDATE job_executions SET kind = 'a'").await;
    world.sql(&format!("GRANT SELECT (kind) ON job_executions TO {}", world.role)).await;
    world.apply::<ExecutionStore>("jobs", World::store_with("jobs", typed())).await.unwrap();
    accepted(&world, &operator, "no-types").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 3").await;
}
