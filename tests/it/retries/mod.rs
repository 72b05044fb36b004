//! Executions that the operator ends and has run again.

mod by_hand;
mod checkpoints;
mod example;
mod in_place;
mod new_execution;
mod refused;

use serde_json::{Value, json};

use crate::support::World;

/// A queue whose rows are set back.
const QUEUE: &str = "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint NOT NULL, execution_number integer, \
     status text NOT NULL, started_at timestamptz, completed_at timestamptz, heartbeat_at timestamptz, run_at timestamptz, \
     attempts integer NOT NULL DEFAULT 1, error text)";

/// A table whose rows are one attempt each.
const RUNS: &str = "CREATE TABLE job_executions (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, job_id bigint NOT NULL, \
     execution_number integer, status text NOT NULL, started_at timestamptz, completed_at timestamptz, run_at timestamptz, \
     attempt integer, retry_of bigint, payload jsonb NOT NULL, note text, error text, UNIQUE (job_id, execution_number))";

fn queue(more: &Value) -> Value {
    let mut spec = json!({"table": {"retry": {"method": "InPlace"}, "columns": {"heartbeatAt": "heartbeat_at", "error": "error",
        "scheduledAt": "run_at", "attempt": "attempts"}}, "pollInterval": "1s", "retry": {"budget": "100%"}});
    json_patch(&mut spec, more);
    spec
}

fn runs(more: &Value) -> Value {
    let mut spec = json!({"table": {"retry": {"method": "NewExecution", "copyColumns": ["payload"]}, "columns": {"error": "error",
        "scheduledAt": "run_at", "attempt": "attempt", "retryOf": "retry_of"}}, "pollInterval": "1s"});
    json_patch(&mut spec, more);
    spec
}

/// Merges `patch` into `value`; null deletes.
fn json_patch(value: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    for (name, patch) in fields {
        if patch.is_null() {
            value.as_object_mut().unwrap().remove(name);
        } else {
            json_patch(&mut value[name], patch);
        }
    }
}

/// The retries on record, in order: execution, attempt, outcome or what it waits for.
async fn retries(world: &World) -> Vec<String> {
    world
        .one(
            "SELECT COALESCE(array_agg(concat_ws(' ', execution_id, attempt, COALESCE(outcome, CASE WHEN waits THEN 'waits' ELSE 'due' END)) \
             ORDER BY execution_id::bigint, attempt), '{}') FROM jobexec.retries",
        )
        .await
}
