//! One scenario from its beginning to its end, and what people see of it: statuses, Events and the `OpenAPI` document, against
//! snapshots. A change that moves code about must change none of them. `INSTA_UPDATE=always make test ARGS='--test it -- scenario::'`
//! writes them again, for a change that is meant to.

use std::collections::BTreeSet;
use std::path::Path;

use jobexec_operator::api::{ExecutionPolicy, ExecutionStore, JobExecution};
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde::Serialize;
use serde_json::{Value, json};

use crate::support::{Operator, PATIENCE, World, is};

const ROWS: &str = "INSERT INTO job_executions VALUES \
     (1, 1, 1, 'running', now() - interval '10 minutes', NULL), (2, 1, 2, 'running', now() - interval '10 minutes', NULL), \
     (3, 9, 1, 'running', now() - interval '10 minutes', NULL), (4, 9, 2, 'running', now() - interval '9 hours', NULL), \
     (5, 2, 1, 'completed', now() - interval '3 hours', now() - interval '2 hours'), (6, 2, 2, 'scheduled', NULL, NULL), \
     (7, 1, 3, 'running', now() - interval '10 minutes', NULL)";

#[tokio::test]
async fn what_people_see_is_as_the_snapshots_have_it() {
    let world = World::new("scenario").await;
    world.sql(ROWS).await;
    let (operator, https) = world.serving(&[]).await;
    let governs = |more: Value| {
        let mut spec = json!({"selector": {"jobIds": ["9"]}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    world.policy("nightly", governs(json!({"timeout": "8h", "onStale": "AlertOnly"}))).await;
    world.policy("nightly-2", governs(json!({"timeout": "6h"}))).await;
    world.execution("extended", "3", json!({"extendBy": "1h"})).await;
    world.execution("unknown", "99", json!({})).await;
    // Nothing counts as long-running: whether that is told before a sweep ends it depends on who is faster.
    let spec = json!({"executionObjects": {"enabled": true}, "maxFailuresPerSweep": 1, "longRunning": {"after": "1000h"}});
    world.store(spec).await;
    // By now all that run have an object, so that none depends on who is faster.
    seen(&world, &operator, "1-running").await;

    world.sql("UPDATE job_executions SET started_at = now() - interval '30 hours' WHERE id = 1").await;
    world.event_until(&operator, "jobs", "StaleExecutionsFailed").await;
    seen(&world, &operator, "2-swept").await;

    world.sql("UPDATE job_executions SET started_at = now() - interval '40 hours' WHERE id IN (2, 7)").await;
    world.store_until(&operator, |s| is(&s.conditions, "EnforcementPaused", "True", "BreakerOpen")).await;
    seen(&world, &operator, "3-breaker-open").await;

    world.annotate("jobexec.dev/resume", "now").await;
    world.until_true("SELECT count(*) = 3 FROM job_executions WHERE status = 'failed'").await;
    seen(&world, &operator, "4-resumed").await;

    let mut document = https.get("/api/openapi.json").await.1;
    document["info"]["version"] = json!("[version]");
    check("openapi", &pretty(&document));
}

/// Waits until all statuses and Events are as a snapshot has them, since each is told at its own time.
async fn seen(world: &World, operator: &Operator, step: &str) {
    let expected = std::fs::read_to_string(folder().join(format!("{step}.snap"))).unwrap_or_default();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let text = told(world).await;
        // Behind what insta says of the snapshot itself.
        let found =
            expected.splitn(3, "---\n").nth(2).is_some_and(|expected| expected.trim_end() == text.trim_end());
        let late = tokio::time::Instant::now() >= deadline;
        if found || late {
            let log = std::panic::catch_unwind(|| check(step, &text));
            return log.unwrap_or_else(|_| panic!("not as the snapshot has it\n{}", operator.log()));
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// What people see now, without what differs from run to run.
async fn told(world: &World) -> String {
    let params = ListParams::default();
    let stores = world.api::<ExecutionStore>().list(&params).await.unwrap().items;
    let policies = world.api::<ExecutionPolicy>().list(&params).await.unwrap().items;
    let executions = world.api::<JobExecution>().list(&params).await.unwrap().items;
    let statuses: Vec<Value> = [
        stores.iter().map(|o| status("ExecutionStore", &o.name_any(), &o.status)).collect::<Vec<_>>(),
        policies.iter().map(|o| status("ExecutionPolicy", &o.name_any(), &o.status)).collect(),
        executions.iter().map(|o| status("JobExecution", &o.name_any(), &o.status)).collect(),
    ]
    .concat();
    let events: BTreeSet<String> = world
        .events()
        .await
        .into_iter()
        .map(|event| {
            let of = event.regarding.unwrap_or_default();
            let parts = [of.kind, of.name, event.type_, event.reason, event.action, event.note];
            redacted(&parts.map(Option::unwrap_or_default).join(" | "))
        })
        .collect();
    let mut all = json!({"statuses": statuses, "events": events});
    redact(&mut all);
    pretty(&all).replace(&world.namespace, "[namespace]").replace(&world.role, "[role]")
}

fn status(kind: &str, name: &str, status: &impl Serialize) -> Value {
    json!({"kind": kind, "name": name, "status": status})
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == "duration" {
                    *value = json!("[duration]");
                }
                redact(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::String(text) if uuid::Uuid::try_parse(text).is_ok() => "[uuid]".clone_into(text),
        Value::String(text) => *text = redacted(text),
        _ => {}
    }
}

/// The text without the times in it.
fn redacted(text: &str) -> String {
    let mut out = String::new();
    for (n, part) in text.split(' ').enumerate() {
        out.push_str(if n > 0 { " " } else { "" });
        let digits =
            |at: std::ops::Range<usize>| part.get(at).is_some_and(|d| d.bytes().all(|b| b.is_ascii_digit()));
        if digits(0..4) && part.get(10..11) == Some("T") && digits(11..13) {
            let end = part.find('Z').map_or(part.len(), |at| at + 1);
            out.push_str("[time]");
            out.push_str(&part[end..]);
        } else {
            out.push_str(part);
        }
    }
    out
}

fn check(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder());
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/snapshots")
}

#[test]
fn only_times_are_redacted() {
    let text = "past 2026-01-02T03:04:05.678Z, since 2026-01-02 by 2026-01-02T03:04:05Z";
    assert_eq!(redacted(text), "past [time], since 2026-01-02 by [time]");
}
