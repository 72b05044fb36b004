//! Tables with many observations, on a server that gives a statement as little memory as possible: no list of all
//! observations may have to fit into that, or each row would be compared with the whole list.

use std::time::Duration;

use chrono::TimeDelta;
use jobexec_operator::api::table::Recreated;
use jobexec_operator::api::{ExecutionStoreSpec, Limit, OnStale};
use jobexec_operator::db::heartbeats::{self, Watch};
use jobexec_operator::db::ledger::{self, Claim, StoreIdentity};
use jobexec_operator::db::staleness::Rules;
use jobexec_operator::db::staleness::evidence;
use jobexec_operator::db::workloads::{self, Workloads};
use jobexec_operator::db::{
    Database, Layout, Ledger, Mapping, StalenessPredicate, observations, observe, schema, url, validate,
};
use jobexec_operator::rules::{Sourced, StoreDefaults, Warn, compile};
use serde_json::json;

use crate::support::World;

/// So many that a list of them does not fit into 64 kB, and that a statement which compares each row with it takes
/// minutes.
const ROWS: i64 = 60_000;

const TABLES: &str = "CREATE TABLE jobs (id bigint PRIMARY KEY, status text NOT NULL); \
     CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint NOT NULL, execution_number integer NOT NULL, \
     status text NOT NULL, started_at timestamptz, completed_at timestamptz, beat timestamptz, pod text)";

fn base() -> StoreDefaults {
    let said = |hours| Sourced::new(TimeDelta::hours(hours), "ExecutionStore/s");
    let limit = |hours| Sourced::new(Limit::After(TimeDelta::hours(hours)), "ExecutionStore/s");
    StoreDefaults {
        timeout: limit(24),
        grace: said(0),
        heartbeat: Some(limit(1)),
        on_stale: Sourced::new(OnStale::Fail, "ExecutionStore/s"),
        retry: None,
        warn: Sourced::new(Warn::After(TimeDelta::hours(1)), "ExecutionStore/s"),
        overruled: Vec::new(),
        store: "ExecutionStore/s".to_owned(),
    }
}

/// The database with the operator's own limits, and the table, claimed.
async fn claimed(world: &World) -> (Database, Mapping, i64) {
    let spec: ExecutionStoreSpec = serde_json::from_value(json!({
        "connection": {"secretRef": {"name": "db"}},
        "table": {
            "columns": {"heartbeatAt": "beat", "workload": "pod"},
            "statuses": {"paused": ["paused"]},
        },
        "jobs": {"gracePeriod": "1h"},
    }))
    .unwrap();
    let options = url::parse(&world.superuser(), None).unwrap().options([("work_mem", "64kB")]);
    let database = Database::connect(options, 3, Duration::from_secs(30)).await.unwrap();
    let layout = Layout::of(&spec);
    schema::apply(&database, &layout, None, &[]).await.unwrap();
    let mapping = validate::validate(&database, &layout).await.unwrap().unwrap().mapping;
    let claimant =
        StoreIdentity { uid: "u".into(), predecessor: None, namespace: "n".into(), name: "s".into() };
    let claim = ledger::claim(&database, &mapping, &claimant, false).await.unwrap();
    let Claim::Held { ledger: Ledger::Tables { store_id, .. }, .. } = claim else { panic!("{claim:?}") };
    (database, mapping, store_id)
}

/// Rows that have run for long, each with a job, an old heartbeat and a Pod.
async fn fill(world: &World) {
    let rows = format!("generate_series(1, {ROWS}) AS n");
    world
        .sql(&format!(
            "INSERT INTO jobs SELECT n, 'running' FROM {rows}; \
             INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '20 hours', NULL, \
             now() - interval '2 hours', 'Pod/p' || n FROM {rows}; \
             ANALYZE jobs; ANALYZE job_executions"
        ))
        .await;
}

async fn count(world: &World, what: &str) -> i64 {
    world.sql("ANALYZE jobexec.observations; ANALYZE jobexec.suspects").await;
    world.one(&format!("SELECT count(*) FROM jobexec.{what}")).await
}

/// Their jobs are observed unfinished, and then finished.
async fn jobs_finish(world: &World, database: &Database, predicate: &StalenessPredicate<'_>) {
    evidence::observe(database, predicate).await.unwrap();
    assert_eq!(count(world, "observations WHERE kind = 'JobUnfinished'").await, ROWS);
    world.sql("UPDATE jobs SET status = 'completed'; ANALYZE jobs").await;
    evidence::observe(database, predicate).await.unwrap();
    assert_eq!(count(world, "suspects WHERE reason = 'JobFinished' AND certain").await, ROWS);
}

/// Their Pods are gone.
async fn pods_vanish(world: &World, database: &Database, predicate: &StalenessPredicate<'_>) {
    workloads::update(database, predicate, Some(&Workloads::default()), Recreated::Alive).await.unwrap();
    assert_eq!(count(world, "suspects WHERE reason = 'WorkloadGone' AND certain").await, ROWS);
    let held = heartbeats::update(database, predicate, &mut Watch::default(), TimeDelta::seconds(15)).await;
    assert_eq!(held.unwrap(), None, "whose workload has ended is not held");
}

/// They are paused, and run again.
async fn executions_pause(world: &World, database: &Database, predicate: &StalenessPredicate<'_>) {
    world.sql("UPDATE job_executions SET status = 'paused'").await;
    observations::update_paused(database, predicate).await.unwrap();
    world
        .sql("UPDATE job_executions SET status = 'running', started_at = started_at; ANALYZE job_executions")
        .await;
    observations::update_paused(database, predicate).await.unwrap();
    assert_eq!(count(world, "observations WHERE kind = 'Paused' AND detail = 'Resumed'").await, ROWS);
}

/// By their start, none has run for 24 hours; then all become stale.
async fn deadlines_pass(world: &World, database: &Database, predicate: &StalenessPredicate<'_>) {
    let deadlines = predicate.with_evidence(false);
    let pulse = observe::pulse(database, &deadlines, TimeDelta::hours(24)).await.unwrap();
    assert_eq!((pulse.stale, pulse.next_deadline.is_some()), (0, true));
    world
        .sql("UPDATE job_executions SET started_at = now() - interval '25 hours'; ANALYZE job_executions")
        .await;
    let pulse = observe::pulse(database, &deadlines, TimeDelta::hours(24)).await.unwrap();
    assert_eq!(pulse.stale, ROWS);
    let live = observe::live(database, predicate).await.unwrap();
    assert_eq!((live.running, live.stale), (ROWS, ROWS));
}

/// Half of them end, and their observations are deleted.
async fn half_end(world: &World, database: &Database, predicate: &StalenessPredicate<'_>) {
    world
        .sql("UPDATE job_executions SET status = 'completed' WHERE id % 2 = 0; ANALYZE job_executions")
        .await;
    observations::update_paused(database, predicate).await.unwrap();
    evidence::observe(database, predicate).await.unwrap();
    workloads::update(database, predicate, Some(&Workloads::default()), Recreated::Alive).await.unwrap();
    assert_eq!(count(world, "suspects").await, ROWS);
    assert_eq!(count(world, "observations WHERE execution_id::bigint % 2 = 0").await, 0);
}

#[tokio::test]
async fn what_was_seen_of_many_executions_need_not_fit_into_memory() {
    let world = World::bare("manyseen").await;
    world.sql(TABLES).await;
    let (database, mapping, store_id) = claimed(&world).await;
    let effective_rules = compile(base(), Vec::new(), Vec::new());
    let predicate = StalenessPredicate {
        workloads: Some(TimeDelta::hours(1)),
        ..StalenessPredicate::new(
            &mapping,
            &effective_rules,
            Rules::Table(store_id),
            chrono::Utc::now() - TimeDelta::days(1),
        )
    };
    fill(&world).await;
    jobs_finish(&world, &database, &predicate).await;
    pods_vanish(&world, &database, &predicate).await;
    executions_pause(&world, &database, &predicate).await;
    deadlines_pass(&world, &database, &predicate).await;
    half_end(&world, &database, &predicate).await;
}
