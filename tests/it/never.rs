//! The word `Never` in place of a duration: the limit does not apply.

use jobexec_operator::api::{ExecutionPolicy, ExecutionStore, JobExecution, JobExecutionStatus};
use serde_json::{Value, json};

use crate::support::{World, is};

/// The default table with a column for heartbeats.
const BEATING: &str = "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint NOT NULL, \
     execution_number integer NOT NULL, status text NOT NULL, started_at timestamptz, completed_at timestamptz, beat timestamptz)";

/// Inserts an execution of each of these jobs that has run for this long.
async fn start(world: &World, jobs: std::ops::RangeInclusive<i64>, age: &str) {
    let (first, last) = (jobs.start(), jobs.end());
    world
        .sql(&format!(
            "INSERT INTO job_executions (id, job_id, execution_number, status, started_at) \
             SELECT n, n, 1, 'running', now() - interval '{age}' FROM generate_series({first}, {last}) AS n"
        ))
        .await;
}

/// Runs the command line, and returns what it prints.
fn run(world: &World, args: &[&str]) -> String {
    let ran = world.jobexec(args);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

/// The rows that run.
const RUNNING: &str =
    "SELECT COALESCE(string_agg(id::text, ' ' ORDER BY id), '') FROM job_executions WHERE status = 'running'";

/// Reports whether a status says that there is no deadline, and whose word that is.
fn never(status: &JobExecutionStatus, source: &str) -> bool {
    status.no_deadline.as_deref() == Some("Never")
        && status.timeout.as_deref() == Some("Never")
        && status.timeout_source.as_deref() == Some(source)
        && status.deadline.is_none()
}

/// A policy for job 1, and an object for execution 2; nothing protects execution 3.
#[tokio::test]
async fn no_deadline_ends_an_execution_whose_timeout_is_never() {
    let world = World::new("never").await;
    start(&world, 1..=3, "100000 hours").await;
    world.policy("servers", json!({"timeout": "Never", "selector": {"jobIds": ["1"]}})).await;
    world.execution("one", "1", json!({})).await;
    world.execution("two", "2", json!({"timeout": "Never"})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 3").await;
    for (name, source) in [("one", "ExecutionPolicy/servers"), ("two", "JobExecution/two")] {
        world.execution_until(&operator, name, |s| never(s, source)).await;
    }
    world.policy_until(&operator, "servers", |s| s.governed_executions == Some(1)).await;
    world.request_sweep(&operator).await;
    assert_eq!(world.one::<String>(RUNNING).await, "1 2");
    let moved = "SELECT note FROM jobexec.events WHERE action = 'DeadlineMoved' AND execution_id = '2'";
    assert_eq!(world.one::<String>(moved).await, "timeout Never");

    // With a timeout again, the deadline is back.
    world.execution("two", "2", json!({"timeout": "9000d"})).await;
    world.execution_until(&operator, "two", |s| s.deadline.is_some() && s.no_deadline.is_none()).await;
    world.delete::<JobExecution>("two").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
    world.delete::<ExecutionPolicy>("servers").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
}

#[tokio::test]
async fn without_a_default_timeout_policies_still_set_deadlines() {
    let world = World::new("neverdefault").await;
    start(&world, 1..=4, "30 hours").await;
    world.sql("UPDATE job_executions SET started_at = '-infinity' WHERE id = 4").await;
    world.policy("day", json!({"timeout": "24h", "selector": {"jobIds": ["2"]}})).await;
    world.execution("three", "3", json!({"timeout": "29h"})).await;
    world.execution("one", "1", json!({})).await;
    let operator = world.operator();
    world.store(json!({"defaultTimeout": "Never", "longRunning": {"after": "Never", "threshold": 0}})).await;
    let status = world.store_until(&operator, |s| s.last_sweep.is_some() && s.metrics.is_some()).await;
    assert!(is(&status.conditions, "Healthy", "True", "WithinLimits"), "{:#?}", status.conditions);
    let healthy = status.conditions.iter().find(|c| c.type_ == "Healthy").unwrap();
    assert_eq!(
        healthy.message,
        "0 executions have been running for longer than a policy expects, and up to 0 may"
    );
    world.until_true("SELECT count(*) = 2 FROM job_executions WHERE status = 'failed'").await;
    assert_eq!(world.one::<String>(RUNNING).await, "1 4");
    world.execution_until(&operator, "one", |s| never(s, "ExecutionStore/jobs")).await;
    // A policy for all gives the others a deadline, and takes it back.
    world.policy("all", json!({"timeout": "40h"})).await;
    world.execution_until(&operator, "one", |s| s.deadline.is_some()).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 4").await;
    world.policy("all", json!({"timeout": "Never"})).await;
    world.execution_until(&operator, "one", |s| never(s, "ExecutionPolicy/all")).await;
    // A clean-up by age leaves it alone, as it does all executions that a policy governs.
    let skipped = run(&world, &["cleanup", "--max-hours", "20", "--yes", "-o", "json"]);
    let skipped: Value = serde_json::from_str(&skipped).unwrap();
    assert_eq!(skipped[0]["skipped"]["message"], "ExecutionPolicy/all gives it no deadline (timeout Never)");
    assert_eq!(world.one::<String>(RUNNING).await, "1");
}

#[tokio::test]
async fn a_lost_heartbeat_ends_nothing_where_its_timeout_is_never() {
    let spec = json!({"table": {"columns": {"heartbeatAt": "beat"}}, "heartbeatTimeout": "1m"});
    let world = crate::heartbeats::watched("neverbeat", BEATING, &spec).await;
    start(&world, 1..=2, "3 hours").await;
    // Others are alive, so that nothing is held.
    start(&world, 3..=12, "3 hours").await;
    world
        .sql("UPDATE job_executions SET beat = now() + CASE WHEN id < 3 THEN interval '-2 hours' ELSE interval '1 hour' END")
        .await;
    world.policy("silent", json!({"heartbeatTimeout": "Never", "selector": {"jobIds": ["1"]}})).await;
    let operator = world.operator();
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 2").await;
    world.request_sweep(&operator).await;
    assert_eq!(world.status(1).await, "running");
    let file = world.file("store.yaml", &World::store_with("jobs", spec).to_string());
    let explained = run(&world, &["explain", "1", "-f", &file]);
    assert!(
        explained.contains("HeartbeatLost    heartbeatTimeout is Never, so that heartbeats do not count"),
        "{explained}"
    );
    let rule = explained.lines().find(|line| line.starts_with("* heartbeatTimeout")).unwrap();
    assert!(rule.contains(" Never ") && rule.contains("ExecutionPolicy/silent"), "{rule}");
    assert!(
        explained.contains("If nothing changes, it is failed at"),
        "the deadline is still there: {explained}"
    );
    world.delete::<ExecutionPolicy>("silent").await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
}

#[tokio::test]
async fn nobody_is_warned_where_the_warning_is_never_and_without_a_deadline_there_is_one() {
    let world = World::new("neverwarn").await;
    start(&world, 1..=4, "2 hours").await;
    let job = |id: &str| json!({"jobIds": [id]});
    world.policy("quiet", json!({"warnAfter": {"duration": "Never"}, "selector": job("1")})).await;
    world.policy("server", json!({"timeout": "Never", "selector": job("2")})).await;
    let learnt = json!({"timeout": "Never", "dynamicTimeout": {}, "warnAfter": {"timeoutPercent": 1}, "selector": job("3")});
    world.policy("learnt", learnt).await;
    world.execution("one", "1", json!({})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.until_true("SELECT count(*) = 2 FROM jobexec.events WHERE action = 'Warned'").await;
    world.request_sweep(&operator).await;
    let warned = "SELECT string_agg(execution_id || ' ' || source, ', ' ORDER BY execution_id) FROM jobexec.events WHERE action = 'Warned'";
    assert_eq!(world.one::<String>(warned).await, "2 ExecutionStore/jobs, 4 ExecutionStore/jobs");
    world
        .execution_until(&operator, "one", |s| is(&s.conditions, "LongRunning", "False", "WithinLimits"))
        .await;
    let explained = run(&world, &["explain", "1"]);
    let rule = explained.lines().find(|line| line.starts_with("* warnAfter")).unwrap();
    assert!(rule.contains(" Never ") && rule.contains("ExecutionPolicy/quiet"), "{rule}");
}

#[tokio::test]
async fn everything_that_shows_a_deadline_says_never() {
    let world = World::new("nevershown").await;
    start(&world, 1..=2, "30 hours").await;
    world
        .sql("INSERT INTO job_executions VALUES (3, 1, 2, 'completed', now() - interval '2 hours', now()), (4, 1, 3, 'scheduled', NULL, NULL)")
        .await;
    world.policy("servers", json!({"timeout": "Never", "selector": {"jobIds": ["1"]}})).await;
    world.policy("long", json!({"timeout": "90h", "selector": {"jobIds": ["2"]}})).await;
    for (name, id) in [("one", "1"), ("two", "2"), ("three", "3"), ("four", "4")] {
        world.execution(name, id, json!({})).await;
    }
    let (operator, https) = world.serving(&[]).await;
    world.store(json!({})).await;
    world.execution_until(&operator, "one", |s| never(s, "ExecutionPolicy/servers")).await;
    world.execution_until(&operator, "two", |s| s.deadline.is_some()).await;
    for name in ["three", "four"] {
        let status = world.execution_until(&operator, name, |s| s.phase.is_some()).await;
        assert_eq!(status.no_deadline, None, "{name} does not run");
    }

    kubectl_says_never(&world);
    the_command_line_says_never(&world);
    // The API says the same.
    let reader = https.with(&world.token("jobexec-reader").await);
    let store = world.named("jobs");
    let (status, page) = reader.get(&format!("/api/system/executions?store={store}")).await;
    let one = row(&page["executions"], "1");
    assert_eq!(
        (status, &one["timeout_seconds"], &one["deadline"]),
        (200, &json!(null), &json!(null)),
        "{page}"
    );
    let (status, told) = reader.get(&format!("/api/system/executions/{store}/1/explain")).await;
    assert_eq!((status, &told["deadline"], &told["stale_at"]), (200, &json!(null), &json!(null)), "{told}");
    assert_eq!(told["rules"][0]["value"], "Never", "{told}");
}

/// The row with this id.
fn row(rows: &Value, id: &str) -> Value {
    rows.as_array().unwrap().iter().find(|row| row["id"] == id).unwrap().clone()
}

fn kubectl_says_never(world: &World) {
    let get = |kind: &str| {
        let shown = std::process::Command::new("kubectl")
            .args(["get", kind, "-n", &world.namespace])
            .output()
            .unwrap();
        String::from_utf8(shown.stdout).unwrap()
    };
    let executions = get("jexec");
    let header = executions.lines().next().unwrap();
    let at = header.find("DEADLINE").unwrap();
    let cell = |name: &str| {
        let line = executions.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line[at..].split_whitespace().next().map(str::to_owned)
    };
    assert_eq!(cell("one").as_deref(), Some("Never"), "{executions}");
    assert!(cell("two").unwrap().ends_with('Z'), "{executions}");
    assert_ne!(cell("three").as_deref(), Some("Never"), "{executions}");
    assert!(get("expolicy").lines().any(|line| line.starts_with("servers") && line.contains(" Never ")));
}

fn the_command_line_says_never(world: &World) {
    let all: Value = serde_json::from_str(&run(world, &["list", "--all", "-o", "json"])).unwrap();
    let one = row(&all, "1");
    assert_eq!((&one["timeout_seconds"], &one["deadline"]), (&json!(null), &json!(null)), "{one}");
    assert_eq!(row(&all, "2")["timeout_seconds"], json!(324_000.0));
    let text = run(world, &["list", "--all", "-o", "wide"]);
    let line = |id: &str| text.lines().find(|line| line.starts_with(&format!("{id} "))).unwrap().to_owned();
    assert_eq!(line("1").matches(" Never ").count(), 2, "deadline and timeout: {text}");
    assert_eq!(line("3").matches(" Never ").count(), 1, "the timeout alone: {text}");
    assert!(!line("2").contains("Never"), "{text}");

    let text = run(world, &["explain", "1"]);
    for part in [
        "* timeout          Never  ExecutionPolicy/servers  the most specific",
        "  deadline         Never, by ExecutionPolicy/servers",
        "It is not stale and has no deadline (timeout Never). If nothing changes, nothing ends it.",
    ] {
        assert!(text.contains(part), "{part} not in {text}");
    }
}

#[tokio::test]
async fn an_extension_adds_nothing_to_never() {
    let world = World::new("neverextend").await;
    start(&world, 1..=2, "30 hours").await;
    let servers = |timeout: &str| json!({"timeout": timeout, "selector": {"jobIds": ["1", "2"]}});
    world.policy("servers", servers("Never")).await;
    world.execution("two", "2", json!({})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.execution_until(&operator, "two", |s| never(s, "ExecutionPolicy/servers")).await;
    let nothing =
        "adds nothing as long as its timeout is Never (ExecutionPolicy/servers): it has no deadline";
    let told = run(&world, &["extend", "1", "--by", "2h"]);
    assert_eq!(told, format!("execution 1 is extended by 2h, which {nothing}\n"));
    let store = world.named("jobs");
    let told = run(&world, &["extend", "2", "--by", "2h", "--store", &store]);
    assert_eq!(told, format!("jobexecution/two: extendBy 2h, which {nothing}\n"));
    world
        .until_true("SELECT count(*) = 2 FROM jobexec.rules WHERE scope = 'execution' AND extend_by = interval '2 hours'")
        .await;
    world.request_sweep(&operator).await;
    assert_eq!(world.one::<String>(RUNNING).await, "1 2");
    world.execution_until(&operator, "two", |s| never(s, "ExecutionPolicy/servers")).await;
    assert!(!world.one::<bool>("SELECT bool_or(promised IS NOT NULL) FROM jobexec.rules").await);
    // Once there is a timeout, the extension counts.
    world.policy("servers", servers("29h")).await;
    world.execution_until(&operator, "two", |s| s.deadline.is_some()).await;
    world.request_sweep(&operator).await;
    assert_eq!(world.one::<String>(RUNNING).await, "1 2");
    world.policy("servers", servers("20h")).await;
    world.policy_until(&operator, "servers", |s| is(&s.conditions, "Accepted", "True", "InForce")).await;
    world.request_sweep(&operator).await;
    assert_eq!(world.one::<String>(RUNNING).await, "1 2", "31 hours were promised");
}

/// History says enough about job 2, and too little about job 1.
#[tokio::test]
async fn never_counts_until_history_gives_a_timeout() {
    let world = World::new("neverpending").await;
    start(&world, 1..=3, "30 hours").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT 100 + n, 2, n, 'completed', now() - interval '5 hours', now() - interval '4 hours' \
             FROM generate_series(2, 21) n",
        )
        .await;
    let learnt = json!({"timeout": "Never", "dynamicTimeout": {}, "selector": {"jobIds": ["1", "2"]}});
    world.policy("learnt", learnt).await;
    world.execution("one", "1", json!({})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.until_true("SELECT count(*) = 2 FROM job_executions WHERE status = 'failed'").await;
    world.request_sweep(&operator).await;
    assert_eq!(world.one::<String>(RUNNING).await, "1");
    world.execution_until(&operator, "one", |s| never(s, "ExecutionPolicy/learnt")).await;
    let sources = "SELECT string_agg(execution_id || ' ' || source, ', ' ORDER BY execution_id) FROM jobexec.events WHERE action = 'Failed'";
    assert_eq!(world.one::<String>(sources).await, "2 ExecutionPolicy/learnt, 3 ExecutionStore/jobs");
}

#[tokio::test]
async fn a_limit_is_a_duration_or_never_and_nothing_else() {
    let world = World::bare("nevers").await;
    let spec =
        json!({"defaultTimeout": "Never", "heartbeatTimeout": "Never", "longRunning": {"after": "Never"}});
    let written = serde_json::to_value(world.store(spec).await.spec).unwrap();
    let read = [&written["defaultTimeout"], &written["heartbeatTimeout"], &written["longRunning"]["after"]];
    assert_eq!(read, ["Never"; 3]);
    let spec = json!({"timeout": "Never", "heartbeatTimeout": "Never", "warnAfter": {"duration": "Never"}});
    world.policy("p", spec).await;
    // Where history gives a timeout, there is a share of it.
    let share = json!({"timeoutPercent": 50});
    world.policy("p", json!({"timeout": "Never", "dynamicTimeout": {}, "warnAfter": share})).await;
    world.execution("e", "39", json!({"timeout": "Never", "extendBy": "1h"})).await;

    for wrong in ["never", "NEVER", "", "Never ", " Never", "-1h", "Never1h"] {
        for (spec, part) in [
            (json!({"timeout": wrong}), "spec.timeout"),
            (json!({"heartbeatTimeout": wrong}), "spec.heartbeatTimeout"),
            (json!({"warnAfter": {"duration": wrong}}), "spec.warnAfter.duration"),
        ] {
            refused::<ExecutionPolicy>(&world, World::policy_with("bad", spec), part).await;
        }
        for (spec, part) in [
            (json!({"defaultTimeout": wrong}), "spec.defaultTimeout"),
            (json!({"heartbeatTimeout": wrong}), "spec.heartbeatTimeout"),
            (json!({"longRunning": {"after": wrong}}), "spec.longRunning.after"),
        ] {
            refused::<ExecutionStore>(&world, World::store_with("bad", spec), part).await;
        }
        let object = World::execution_with("bad", "39", json!({"timeout": wrong}));
        refused::<JobExecution>(&world, object, "spec.timeout").await;
    }
    // All other durations have an end.
    for (spec, part) in [
        (json!({"gracePeriod": "Never"}), "spec.gracePeriod"),
        (json!({"pollInterval": "Never"}), "spec.pollInterval"),
        (json!({"heartbeatTimeout": "999ms"}), "must be at least 1s"),
        (json!({"longRunning": {"after": "0s"}}), "must be longer than 0"),
        (json!({"defaultTimeout": "0s"}), "must be longer than 0"),
    ] {
        refused::<ExecutionStore>(&world, World::store_with("bad", spec), part).await;
    }
    for (spec, part) in [
        (json!({"gracePeriod": "Never"}), "spec.gracePeriod"),
        (json!({"dynamicTimeout": {"ceiling": "Never"}}), "spec.dynamicTimeout.ceiling"),
        (
            json!({"timeout": "Never", "warnAfter": share}),
            "with timeout Never there is none: set warnAfter.duration",
        ),
    ] {
        refused::<ExecutionPolicy>(&world, World::policy_with("bad", spec), part).await;
    }
    let object = World::execution_with("bad", "39", json!({"extendBy": "Never"}));
    refused::<JobExecution>(&world, object, "spec.extendBy").await;
}

/// Checks that the API server refuses an object, and what it says.
async fn refused<K>(world: &World, object: Value, part: &str)
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope>
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug,
    K::DynamicType: Default,
{
    let text = object.to_string();
    let error = world.apply::<K>("bad", object).await.map(|_| ()).expect_err(&text).to_string();
    assert!(error.contains(part), "{text}: {part} not in {error:.2000}");
}
