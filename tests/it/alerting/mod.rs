//! Metrics, and everything that uses them: alert rules, a dashboard, the configuration of kube-state-metrics.

mod access;
mod dashboard;
mod exposition;
mod live;
mod rules;
mod state_metrics;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use jobexec_operator::db::Ending;
use jobexec_operator::metrics::{
    CacheNow, End, Format, Metrics, PolicyNow, Pool, ReplicaNow, Snapshot, StoreCounters, StoreSnapshot,
};
use serde_json::{Value, json};

use crate::support::machine;

/// The root of the repository.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A page with every metric.
fn page(format: Format) -> String {
    let metrics = Metrics::default();
    metrics.reconciled("executionstore", true, Duration::from_millis(3));
    metrics.answered("/metrics", 200, Duration::from_millis(3));
    let replica = ReplicaNow { lease_held: true, members: 2, stores_owned: 1 };
    let (stores, policies) = (vec![store("True")], vec![policy()]);
    let caches = vec![CacheNow { kind: "jobexecutions", bytes: 1, refused: 1 }];
    jobexec_operator::metrics::text(
        metrics,
        Snapshot { replica, stores, policies, caches, ..Snapshot::default() },
        format,
    )
    .unwrap()
}

/// A complete store with this status of its condition `Healthy`.
fn store(healthy: &str) -> StoreSnapshot {
    let at = "2025-08-08T16:21:55Z";
    let condition = |type_: &str, status: &str, reason: &str| json!({"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": at});
    let status = json!({
        "metrics": {
            "runningExecutions": 6, "scheduledExecutions": 5, "longRunningExecutions": 4, "staleExecutions": 3,
            "recentExecutions24h": 2, "oldestRunningStartedAt": at, "refusedTransitions": 1, "timestamp": at,
        },
        "violations": {
            "unmappedStatus": 1, "runningWithoutStartedAt": 0, "finishedWithoutCompletedAt": 0,
            "completedBeforeStarted": 0, "runningWithCompletedAt": 0, "startedInFuture": 0, "startedBeforeCreated": 0, "startedAgain": 0, "idTooLong": 0,
        },
        "executionObjects": {"objects": 7, "executionsWithoutObject": 8},
        "retries": {"startedLastHour": 1, "budget": 10, "waiting": 4, "waitingForWorker": 1, "waitingForBudget": 1, "refused": 1},
        "lastSweep": {"trigger": "Startup", "startedAt": at, "duration": "1ms", "failed": 9, "remaining": 0},
        "conditions": [
            condition("Healthy", healthy, "WithinLimits"),
            condition("EnforcementPaused", "True", "BreakerOpen"),
        ],
    });
    let counters = StoreCounters::default();
    counters.failed("ConnectTimeout");
    counters.not_delivered("Unreachable");
    StoreSnapshot {
        namespace: "n".to_owned(),
        name: "s".to_owned(),
        status: Some(Arc::new(serde_json::from_value(status).unwrap())),
        sweep_interval: Some(3_600.0),
        pool: Some(Pool { open: 2, idle: 1, limit: 3, stores: 1 }),
        counters: Arc::new(counters),
    }
}

fn policy() -> PolicyNow {
    let status = json!({"governedExecutions": 2, "conditions": [{
        "type": "Accepted", "status": "True", "reason": "InForce", "message": "",
        "lastTransitionTime": "2025-08-08T16:21:55Z",
    }]});
    PolicyNow {
        namespace: "n".to_owned(),
        name: "p".to_owned(),
        store: "s".to_owned(),
        status: Some(serde_json::from_value(status).unwrap()),
        ratios: Some((0.5, 2.0)),
    }
}

/// The names of the series on a page in the older text format.
fn names(page: &str) -> BTreeSet<String> {
    let samples = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
}

/// The series that a `PromQL` expression queries: the words in it with such a prefix.
fn asked<'a>(expr: &'a str, prefixes: &[&str]) -> BTreeSet<&'a str> {
    let words = expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))).collect()
}

/// The rules in all groups of a rules file.
fn rules(text: &str) -> Vec<Value> {
    let file: Value = serde_saphyr::from_str(text).unwrap();
    let groups = file["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// Runs promtool in the root of the repository, or reports that it is missing.
fn promtool(test: &str, args: &[&str], input: Option<&str>) -> Option<Output> {
    let program = machine::needs(test, machine::Part::Tool("promtool"), machine::program("promtool"))?;
    Some(run(&program, args, input))
}

fn run(program: &Path, args: &[&str], input: Option<&str>) -> Output {
    use std::io::Write as _;
    let mut command = Command::new(program);
    command.args(args).current_dir(ROOT).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.unwrap_or_default().as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Asserts that the program had no objections.
fn clean(output: &Output) {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// Counts one execution that was ended.
fn ended(counters: &StoreCounters, reason: &str) {
    counters.ended([End { reason, ending: Ending::Failed, lag: Some(Duration::from_millis(400)) }]);
}
