//! The operator is killed at each of its writes, in one run for each, or never gets the response. The end state is always
//! the same, and no row is changed too early or twice.

use futures::{StreamExt as _, stream};
use jobexec_operator::api::{ExecutionStore, ExecutionStoreStatus, JobExecution, Phase};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::proxy::{Proxies, Trap};
use crate::support::world::TABLE;
use crate::support::{Operator, PATIENCE, World, is};

/// The number of concurrent runs. They mostly wait.
const AT_ONCE: usize = 8;

/// Reads of the database without a write in between that show that nothing is left to do: several polls.
const QUIET: usize = 16;

/// A part of the statements of a sweep.
const SWEEP: &str = "INSERT INTO jobexec.sweeps";

/// The database itself logs every change of a row.
const HISTORY: &str = "CREATE TABLE history (n bigserial, at timestamptz DEFAULT clock_timestamp(), \
         id bigint, before text, after text, ended timestamptz); \
     CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
         INSERT INTO public.history (id, before, after, ended) VALUES (OLD.id, OLD.status, NEW.status, NEW.completed_at); \
         RETURN NULL; END $$; \
     CREATE TRIGGER log AFTER UPDATE OR DELETE ON job_executions FOR EACH ROW EXECUTE FUNCTION log()";

/// The rows of job 1 run again, in new rows.
const NEW_ROWS: &str =
    "CREATE SEQUENCE ids START 101; ALTER TABLE job_executions ALTER id SET DEFAULT nextval('ids')";

/// 1 to 3 are stale, 6 would be without its own timeout, 7 is healthy, 8 has ended.
const ROWS: &str = "INSERT INTO job_executions \
     SELECT n, 1, n, 'running', now() - interval '2 days' - n * interval '1 minute' FROM generate_series(1, 3) n; \
     INSERT INTO job_executions VALUES \
         (6, 2, 3, 'running', now() - interval '2 days', NULL), (7, 2, 4, 'running', now() - interval '1 minute', NULL), \
         (8, 2, 5, 'completed', now() - interval '3 days', now() - interval '2 days')";

/// Rows that become stale soon after they are inserted, the second one by its own timeout.
const LATER: [&str; 2] = [
    "INSERT INTO job_executions VALUES (4, 2, 1, 'running', now() - interval '24 hours' + interval '1.5 seconds')",
    "INSERT INTO job_executions VALUES (5, 2, 2, 'running', now() - interval '1 hour' + interval '1.5 seconds')",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_any_of_its_writes_it_reaches_the_same_end() {
    at_every_write(Trap::Before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_any_of_its_writes_it_reaches_the_same_end() {
    at_every_write(Trap::After).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_hearing_of_any_one_of_its_writes_it_reaches_the_same_end() {
    at_every_write(Trap::Unanswered).await;
}

/// Runs the scenario with a trap at each write of an undisturbed run.
async fn at_every_write(trap: Trap) {
    static UNDISTURBED: OnceCell<(usize, Value)> = OnceCell::const_new();
    let (writes, end) = UNDISTURBED.get_or_init(|| Box::pin(undisturbed())).await;
    let runs = stream::iter(1..=*writes).map(|k| async move {
        // A task of its own, so that the runs do not wait for each other.
        let run = tokio::spawn(disturbed(k, trap, end)).await;
        run.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    });
    let sprung = runs.buffer_unordered(AT_ONCE).filter(|sprung| std::future::ready(*sprung)).count().await;
    // In a slower run, one write may do the work of two, so that the last writes do not happen.
    assert!(sprung >= 12, "of {writes} writes only {sprung} were made");
}

/// The number of writes, and the end state, of an undisturbed run.
async fn undisturbed() -> (usize, Value) {
    let mut run = Run::new().await;
    run.operate();
    for (sweeps, row) in (1..).zip(LATER) {
        run.proxies.writes.until(|passed| passed.count(SWEEP) == sweeps).await;
        run.world.sql(row).await;
    }
    let end = run.settle().await;
    run.check("undisturbed").await;
    (run.proxies.writes.passed().writes.len(), end)
}

/// Runs the scenario with a trap at write `k`. Returns whether that write happened.
async fn disturbed(k: usize, trap: Trap, undisturbed: &'static Value) -> bool {
    let mut run = Run::new().await;
    let writes = run.proxies.writes.clone();
    writes.trap(k, trap);
    run.operate();
    for (sweeps, row) in (1..).zip(LATER) {
        writes.until(|passed| passed.count(SWEEP) == sweeps || passed.sprung).await;
        run.world.sql(row).await;
    }
    let sprung = tokio::select! {
        _ = writes.until(|passed| passed.sprung) => true,
        _ = run.settle() => false,
    };
    if sprung {
        // A batch that another operator may still be working on is announced a minute after its last sweep: this one has
        // ended.
        run.world
            .sql(
                "UPDATE jobexec.sweeps SET started_at = started_at - interval '2 minutes'; \
                 UPDATE jobexec.events SET sweep_id = NULL",
            )
            .await;
        if trap != Trap::Unanswered {
            run.operator.take().unwrap().kill();
            writes.release();
            run.operate();
        }
    }
    let end = run.settle().await;
    let context = format!("{trap:?} at {k}: {:#?}", run.proxies.writes.passed());
    assert_eq!(end, *undisturbed, "{context}");
    run.check(&context).await;
    sprung
}

/// A world in which the scenario runs.
struct Run {
    world: World,
    proxies: Proxies,
    operator: Option<Operator>,
}

impl Run {
    async fn new() -> Self {
        let tables = format!("{TABLE}; {NEW_ROWS}");
        // Row 5 ends before a warning is due, row 6 gets one at once.
        let spec = json!({"longRunning": {"after": "90m"}, "executionObjects": {"enabled": true},
            "table": {"retry": {"method": "NewExecution"}}});
        let world = World::with("crash", &tables, &spec).await;
        world.sql(&format!("GRANT USAGE ON SEQUENCE ids TO {}", world.role)).await;
        let proxies = Proxies::before(&world).await;
        world.sql(HISTORY).await;
        world.execution("soon", "5", json!({"timeout": "1h"})).await;
        world.execution("long", "6", json!({"timeout": "72h"})).await;
        // Rows that ended before the first reconcile have objects too.
        world.sql("CREATE INDEX ON job_executions (completed_at)").await;
        let retry = json!({"after": "0s", "onReasons": ["DeadlineExceeded"], "backoff": {"initial": "0s"}});
        world
            .policy("again", json!({"selector": {"jobIds": ["1"]}, "onStale": "Retry", "retry": retry}))
            .await;
        world.store(spec).await;
        world.sql(ROWS).await;
        Self { world, proxies, operator: None }
    }

    fn operate(&mut self) {
        self.operator = Some(self.world.operator());
    }

    /// Waits until everything is done and nothing was written for several polls. Returns the end state.
    async fn settle(&self) -> Value {
        let settled = async {
            loop {
                let passed = self.proxies.writes.passed();
                if passed.quiet >= QUIET && self.done().await {
                    return self.end().await;
                }
                self.proxies.writes.until(|now| now.reads > passed.reads).await;
            }
        };
        let Ok(end) = tokio::time::timeout(PATIENCE, settled).await else {
            panic!(
                "it does not come to rest: {:#}\n{:#?}\n{}",
                self.end().await,
                self.proxies.writes.passed(),
                self.operator.as_ref().unwrap().log(),
            )
        };
        end
    }

    /// Reports whether everything in the scenario has happened.
    async fn done(&self) -> bool {
        let rows: bool = self
            .world
            .one(
                "SELECT (SELECT count(*) FROM job_executions WHERE status = 'failed') = 5 \
                        AND (SELECT count(*) FROM jobexec.retries WHERE outcome = 'Retried') = 3 \
                        AND NOT EXISTS (SELECT FROM jobexec.sweeps WHERE announced_at IS NULL)",
            )
            .await;
        let mut objects = self.world.api::<JobExecution>().list(&ListParams::default()).await.unwrap().items;
        objects.sort_by_key(ResourceExt::name_any);
        let phase = |e: &JobExecution| e.status.as_ref().and_then(|s| s.phase);
        let label = |e: &JobExecution| e.labels().get("jobexec.dev/phase").cloned();
        let stands = |e: &JobExecution| {
            let wanted = if ["jobs-7", "long"].contains(&e.name_any().as_str()) {
                (Phase::Running, "running")
            } else {
                (Phase::Failed, "failed")
            };
            phase(e) == Some(wanted.0) && label(e).as_deref() == Some(wanted.1)
        };
        let names: Vec<_> = objects.iter().map(ResourceExt::name_any).collect();
        let store = self.world.api::<ExecutionStore>().get("jobs").await.unwrap();
        let ready = |status: &ExecutionStoreStatus| {
            is(&status.conditions, "Ready", "True", "Enforcing")
                && is(&status.conditions, "ObjectsSynced", "True", "Synced")
                && status.metrics.as_ref().is_some_and(|m| {
                    (m.running_executions, m.stale_executions, m.recent_executions_24h) == (2, 0, 2)
                })
                && status
                    .execution_objects
                    .is_some_and(|m| (m.objects, m.executions_without_object) == (7, 0))
        };
        rows && store.status.as_ref().is_some_and(ready)
            && names == ["jobs-1", "jobs-2", "jobs-3", "jobs-4", "jobs-7", "long", "soon"]
            && objects.iter().all(stands)
    }

    /// The state that should be the same in every run: no times, no numbers of a single sweep, no generated ids.
    async fn end(&self) -> Value {
        let table = async |query: &str| -> Value {
            let text: String = self.world.one(&format!("SELECT json_agg(t)::text FROM ({query}) AS t")).await;
            serde_json::from_str(&text).unwrap()
        };
        let mut store =
            serde_json::to_value(self.world.api::<ExecutionStore>().get("jobs").await.unwrap().status)
                .unwrap();
        for (part, field) in [("metrics", "timestamp"), ("metrics", "oldestRunningStartedAt")] {
            store[part].as_object_mut().unwrap().remove(field);
        }
        store.as_object_mut().unwrap().remove("lastSweep");
        let mut executions = vec![];
        for execution in self.world.api::<JobExecution>().list(&ListParams::default()).await.unwrap() {
            let mut status = serde_json::to_value(&execution.status).unwrap();
            for field in ["startedAt", "completedAt", "deadline"] {
                status.as_object_mut().unwrap().remove(field);
            }
            let owned = execution.owner_references().len();
            let (name, labels) = (execution.name_any(), execution.labels());
            executions
                .push(json!({"name": name, "labels": labels, "owned": owned, "status": undated(status)}));
        }
        // It depends on timing whether a stale row gets an object, and so an Event that it runs for long, just before it
        // is ended.
        let chance = |e: &(String, String, String)| e.0.starts_with("jobs-") && e.1 == "LongRunning";
        let events = self.events().await.into_iter();
        let mut events: Vec<_> = events.filter(|e| e.0 != "jobs" && !chance(e)).collect();
        events.sort();
        json!({
            "rows": table("SELECT CASE WHEN id < 100 THEN id END AS id, job_id, execution_number, status, \
                completed_at IS NOT NULL AS ended FROM job_executions ORDER BY job_id, execution_number").await,
            "retries": table("SELECT execution_id, attempt, outcome, tries, fault FROM jobexec.retries ORDER BY 1, 2").await,
            // It depends on timing whether 4 gets a warning in its last second.
            "records": table("SELECT execution_id, action, reason, source FROM jobexec.events \
                WHERE execution_id <> '4' OR action <> 'Warned' ORDER BY execution_id, action").await,
            "rules": table("SELECT scope, key, timeout, timeout_source FROM jobexec.rules ORDER BY scope, key").await,
            "store": undated(store), "executions": executions, "events": events,
        })
    }

    /// The Events: the object that each is about, its reason, and its type.
    async fn events(&self) -> Vec<(String, String, String)> {
        let about = |e: &Event| e.regarding.as_ref().and_then(|r| r.name.clone()).unwrap();
        let all = self.world.events().await;
        all.into_iter().map(|e| (about(&e), e.reason.clone().unwrap(), e.type_.clone().unwrap())).collect()
    }

    /// Checks that nothing forbidden has happened on the way.
    async fn check(&self, context: &str) {
        let changes: String = self
            .world
            .one("SELECT string_agg(concat_ws(' ', id, before, after, ended IS NOT NULL), ', ' ORDER BY id, n) FROM history")
            .await;
        let once: Vec<String> = (1..=5).map(|id| format!("{id} running failed t")).collect();
        assert_eq!(changes, once.join(", "), "each row once, and no row that has ended: {context}");
        let early: i64 = self
            .world
            .one(
                "SELECT count(*) FROM history AS h JOIN job_executions AS e USING (id) WHERE LEAST(h.at, h.ended) < \
                 e.started_at + CASE id WHEN 5 THEN interval '1 hour' ELSE interval '24 hours' END",
            )
            .await;
        assert_eq!(early, 0, "failed before its deadline: {context}");
        let sweeps: Vec<String> =
            sqlx::query_scalar("SELECT replace(sweep_id::text, '-', '') FROM jobexec.sweeps ORDER BY 1")
                .fetch_all(&self.world.pool)
                .await
                .unwrap();
        let mut told: Vec<String> = self
            .world
            .events()
            .await
            .into_iter()
            .filter(|e| e.reason.as_deref() == Some("StaleExecutionsFailed"))
            .map(|e| e.metadata.name.unwrap().trim_start_matches("jobs.").to_owned())
            .collect();
        told.sort();
        assert_eq!(told, sweeps, "one Event for each sweep: {context}");
        let failed: i64 = self.world.one("SELECT sum(failed)::bigint FROM jobexec.sweeps").await;
        assert_eq!(failed, 5, "{context}");
    }
}

/// Removes the times of conditions, and the messages, which contain deadlines.
fn undated(mut status: Value) -> Value {
    for condition in status["conditions"].as_array_mut().unwrap() {
        let condition = condition.as_object_mut().unwrap();
        condition.remove("lastTransitionTime");
        condition.remove("message");
    }
    status
}
