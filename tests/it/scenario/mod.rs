//! One scripted scenario with every kind of object, whose statuses, Events and API document are compared with snapshots: a
//! change of any text that users read shows in a diff. To write the snapshots again after such a change:
//! `INSTA_UPDATE=always make test ARGS='--test it -- scenario'`.

mod redact;
mod settle;
mod view;

use chrono::{DateTime, Utc};
use jobexec_operator::api::JobExecution;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use self::redact::Redaction;
use self::settle::{events_published, executions_match, governed, policy_changed, store_matches, unbound};
use crate::support::hook::{Hook, status};
use crate::support::{Operator, World, is, rbac};

/// The table, with an index by which the operator finds the executions that have just ended.
const TABLE: &str = "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint NOT NULL, execution_number integer NOT NULL, \
     status text NOT NULL, started_at timestamptz, completed_at timestamptz, type text, beat timestamptz); \
     CREATE INDEX ON job_executions (completed_at)";

/// The rows, by what becomes of them. All times are whole hours from `{t}`: a count of hours does not depend on the moment
/// at which it is taken.
const ROWS: &str = "INSERT INTO job_executions
    SELECT id, job, number, status, t - start, t - finish, type, CASE WHEN beats THEN t END
    FROM (SELECT '{t}'::timestamptz AS t) AS t, (VALUES
        -- past the timeout of the store
        (11, 1, 1, 'running', interval '49 hours', NULL::interval, NULL, false),
        -- alive, by its heartbeat and the timeout of its policy
        (12, 2, 1, 'running', interval '30 hours', NULL, 'import', true),
        -- past the timeout of a policy that only reports
        (13, 3, 1, 'running', interval '50 hours', NULL, 'billing', false),
        -- cancelled later by its JobExecution
        (14, 4, 1, 'running', interval '2 hours', NULL, NULL, false),
        -- superseded by the next
        (15, 5, 1, 'running', interval '20 hours', NULL, NULL, false),
        (16, 5, 2, 'running', interval '10 hours', NULL, NULL, false),
        -- alive, since its JobExecution gives it more time
        (17, 6, 1, 'running', interval '26 hours', NULL, NULL, false),
        -- past the timeout of a policy that cancels
        (18, 7, 1, 'running', interval '50 hours', NULL, 'import', true),
        -- alive, by a timeout from history
        (19, 8, 4, 'running', interval '1 hour', NULL, 'report', false),
        (31, 8, 1, 'completed', interval '9 hours', interval '7 hours', 'report', false),
        (32, 8, 2, 'completed', interval '7 hours', interval '5 hours', 'report', false),
        (33, 8, 3, 'completed', interval '5 hours', interval '3 hours', 'report', false),
        (34, 9, 1, 'failed', interval '6 hours', interval '5 hours', NULL, false),
        (35, 9, 2, 'scheduled', NULL, NULL, NULL, false),
        -- contradicts the mapping
        (36, 9, 3, 'lost', interval '4 hours', NULL, NULL, false)
    ) AS r (id, job, number, status, start, finish, type, beats)";

/// The value of the annotation that requests a sweep.
const REQUEST: &str = "a sweep, please";

#[tokio::test]
async fn the_statuses_the_events_and_the_api_are_those_of_the_snapshots() {
    let hook = Hook::start(false, status("200 OK")).await;
    let spec = spec(&hook);
    let world = World::with("scenario", TABLE, &spec).await;
    let (operator, https) = world.serving(&[]).await;
    let mut snapshots = Snapshots::default();

    objects_without_a_store(&world, &operator).await;
    let t: DateTime<Utc> = world.one("SELECT date_trunc('second', now())").await;
    let redaction = Redaction { namespace: world.namespace.clone(), t };
    world.sql(&ROWS.replace("{t}", &t.to_rfc3339())).await;
    world.store(spec.clone()).await;
    sweep_is_over(&world, &operator).await;
    let swept = view::statuses(&world, &redaction).await;
    snapshots.compare("after_the_first_sweep", &view::yaml(&swept));

    requests(&world, &operator).await;
    let mut changed = view::statuses(&world, &redaction).await;
    changed.retain(|name, status| swept.get(name) != Some(status));
    snapshots.compare("changed_by_the_requests", &view::yaml(&changed));

    let subject = json!({"kind": "ServiceAccount", "name": "tool", "namespace": world.namespace});
    rbac::bind(&world.client, None, "jobexec-health", subject).await;
    let tool = https.with(&rbac::token(&world.client, &world.namespace, "tool", &[]).await);
    let document = tool.until("/api/openapi.json", |status, _| status == 200).await;
    snapshots.compare("openapi", &format!("{document:#}"));

    events_published(&world, &operator).await;
    // What is still to be published is, before it ends.
    assert!(tokio::task::spawn_blocking(|| operator.stop()).await.unwrap().success());
    snapshots.compare("events", &view::yaml(&view::events(&world, &redaction).await));
    snapshots.finish();
}

/// The spec of the store `jobs`.
fn spec(hook: &Hook) -> Value {
    json!({
        "table": {"columns": {"jobType": "type", "heartbeatAt": "beat"}},
        "singleActiveExecution": {"gracePeriod": "1h"},
        "longRunning": {"after": "3h", "threshold": 2},
        "executionObjects": {"enabled": true},
        "notifications": {
            "groupWait": "0s", "groupInterval": "0s",
            "channels": [{"name": "ops", "webhook": {"url": hook.base}}],
        },
    })
}

/// Creates the two stores that never become ready, then the objects of `jobs`, which does not exist yet: once they say so,
/// the operator has read them all, and its first sweep counts with all of them.
async fn objects_without_a_store(world: &World, operator: &Operator) {
    let locked = json!({"connection": {"secretRef": {"name": "nothing"}}});
    let misnamed = json!({"table": {"name": "nothing"}});
    for (name, spec, reason) in
        [("locked", locked, "SecretNotFound"), ("misnamed", misnamed, "TableNotFound")]
    {
        let store = World::store_with(name, spec);
        world.apply::<jobexec_operator::api::ExecutionStore>(name, store).await.unwrap();
        world.store_named_until(operator, name, |s| is(&s.conditions, "Ready", "False", reason)).await;
    }

    // Of two of the same rank the older counts, and within a second the first by name: so they are created in that order.
    let import = json!({"jobTypes": ["import"]});
    let dynamic = json!({"quantile": 0.5, "minSamples": 3, "refreshInterval": "1h"});
    for (name, store, spec) in [
        (
            "billing",
            "jobs",
            json!({"selector": {"jobTypes": ["billing"]}, "timeout": "1h", "onStale": "AlertOnly"}),
        ),
        (
            "imports",
            "jobs",
            json!({"selector": import, "timeout": "48h", "heartbeatTimeout": "24h", "onStale": "Cancel"}),
        ),
        (
            "imports-too",
            "jobs",
            json!({"selector": import, "timeout": "96h", "warnAfter": {"duration": "36h"}}),
        ),
        ("reports", "jobs", json!({"selector": {"jobTypes": ["report"]}, "dynamicTimeout": dynamic})),
        ("unread", "locked", json!({"timeout": "1h"})),
        ("without-store", "nothing", json!({"timeout": "1h"})),
    ] {
        let mut policy = World::policy_with(name, spec);
        policy["spec"]["storeRef"]["name"] = store.into();
        world.apply::<jobexec_operator::api::ExecutionPolicy>(name, policy).await.unwrap();
    }
    for (name, store, id, spec) in [
        ("cancelled", "jobs", "14", json!({})),
        ("extended", "jobs", "17", json!({"timeout": "72h"})),
        ("extended-too", "jobs", "17", json!({"timeout": "96h"})),
        ("invalid", "jobs", "seven", json!({})),
        ("unread", "locked", "1", json!({})),
        ("without-row", "jobs", "99", json!({"extendBy": "1h"})),
        ("without-store", "nothing", "1", json!({})),
    ] {
        let mut execution = World::execution_with(name, id, spec);
        execution["spec"]["storeRef"]["name"] = store.into();
        world.apply::<JobExecution>(name, execution).await.unwrap();
    }
    unbound(world, operator).await;
}

/// Waits until every status is about the time after the first sweep.
async fn sweep_is_over(world: &World, operator: &Operator) {
    let sweep = world.store_until(operator, |s| s.last_sweep.is_some()).await.last_sweep.unwrap();
    assert_eq!((sweep.trigger.as_str(), sweep.failed), ("Startup", 3), "{sweep:?}");
    executions_match(world, operator).await;
    store_matches(world, operator).await;
    governed(world, operator).await;
}

/// Cancels an execution, changes a policy, and requests a sweep, as users would; waits until that is done.
async fn requests(world: &World, operator: &Operator) {
    let cancel = Patch::Merge(json!({"spec": {"cancel": true}}));
    let params = PatchParams { field_manager: Some("kubectl-patch".to_owned()), ..PatchParams::default() };
    world.api::<JobExecution>().patch("cancelled", &params, &cancel).await.unwrap();
    world
        .execution_until(operator, "cancelled", |s| is(&s.conditions, "Accepted", "True", "Cancelled"))
        .await;

    policy_changed(world, operator, "billing", json!({"timeout": "2h"})).await;
    world.execution_until(operator, "jobs-13", |s| s.timeout.as_deref() == Some("2h")).await;

    world.annotate("jobexec.dev/sweep-requested", REQUEST).await;
    world.store_until(operator, |s| s.observed_sweep_request.as_deref() == Some(REQUEST)).await;
    executions_match(world, operator).await;
    store_matches(world, operator).await;
    governed(world, operator).await;
}

/// The comparisons, of which all that fail are reported together.
#[derive(Default)]
struct Snapshots {
    differing: Vec<&'static str>,
}

impl Snapshots {
    fn compare(&mut self, name: &'static str, text: &str) {
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        let check = || settings.bind(|| insta::assert_snapshot!(name, text));
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_err() {
            self.differing.push(name);
        }
    }

    fn finish(self) {
        assert!(self.differing.is_empty(), "not as the snapshots have them: {:?}", self.differing);
    }
}
