//! Every kind of failure of the API server: rows are managed in time nevertheless, and actions are reported once as soon
//! as that is possible.

use http::request::Parts;
use jobexec_operator::api::{ExecutionStore, ExecutionStoreStatus};
use serde_json::{Value, json};

use crate::support::proxy::{Canned, Mode, Proxies};
use crate::support::{Operator, World, is, rbac};

/// A row whose deadline, an hour after its start, passes after this time.
fn row(id: i64, deadline_in: &str) -> String {
    format!(
        "INSERT INTO job_executions VALUES \
         ({id}, 1, {id}, 'running', clock_timestamp() - interval '1 hour' + interval '{deadline_in}')"
    )
}

/// Creates a world with its proxies, an operator, and a healthy store.
async fn at_work(test: &str) -> (World, Proxies, Operator) {
    at_work_with(test, json!({"executionObjects": {"enabled": true}})).await
}

/// Does the same with this addition to the spec of the store.
async fn at_work_with(test: &str, mut spec: Value) -> (World, Proxies, Operator) {
    let world = World::new(test).await;
    rbac::apply(&world.client, &world.namespace, rbac::WORKLOADS).await;
    let proxies = Proxies::before(&world).await;
    let operator = world.operator();
    spec["defaultTimeout"] = json!("1h");
    world.store(spec).await;
    world.store_until(&operator, ready).await;
    (world, proxies, operator)
}

fn ready(status: &ExecutionStoreStatus) -> bool {
    is(&status.conditions, "Ready", "True", "Enforcing") && status.metrics.is_some()
}

fn failed_one(status: &ExecutionStoreStatus) -> bool {
    status.last_sweep.as_ref().is_some_and(|sweep| sweep.failed == 1)
}

/// Requests to write the status of the store.
fn status_of_store(request: &Parts) -> bool {
    request.method == "PATCH" && request.uri.path().ends_with("/executionstores/jobs/status")
}

fn watch(request: &Parts) -> bool {
    request.uri.query().is_some_and(|query| query.contains("watch="))
}

/// Checks that one Event reports the sweeps.
async fn told_once(world: &World, operator: &Operator, proxies: &Proxies) {
    world.event_until(operator, "jobs", "StaleExecutionsFailed").await;
    proxies.reads(6).await;
    let events = world.events().await;
    let told = events.iter().filter(|e| e.reason.as_deref() == Some("StaleExecutionsFailed"));
    assert_eq!(told.count(), 1, "{events:#?}");
}

/// Asks the operator to stop while the proxies go on.
fn stop(operator: Operator) {
    let log = operator.log();
    let status = tokio::task::block_in_place(|| operator.stop());
    assert!(status.success(), "{status}\n{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_passes_while_the_api_server_is_away_is_kept_and_told_once() {
    let (world, proxies, operator) = at_work("away").await;
    world.execution("e", "1", json!({})).await;
    world.execution_until(&operator, "e", |s| is(&s.conditions, "Bound", "False", "RowNotFound")).await;
    proxies.api.gate.set(Mode::Away);
    world.sql(&row(1, "1 second")).await;
    proxies.row_until(&world, 1, "failed").await;
    proxies.api.gate.turned_away(2).await;
    // Further reconciles do not discard the pending status.
    proxies.reads(6).await;
    let untold = world.api::<ExecutionStore>().get("jobs").await.unwrap().status.unwrap();
    assert!(!failed_one(&untold), "{untold:#?}");

    proxies.api.gate.set(Mode::Open);
    let status = world.store_until(&operator, failed_one).await;
    assert_eq!(status.last_sweep.unwrap().trigger, "Deadline");
    told_once(&world, &operator, &proxies).await;
    world
        .execution_until(&operator, "e", |s| is(&s.conditions, "Succeeded", "False", "DeadlineExceeded"))
        .await;
    world.event_until(&operator, "e", "DeadlineExceeded").await;
    stop(operator);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_is_away_at_the_start_is_waited_for() {
    let world = World::new("late").await;
    let proxies = Proxies::before(&world).await;
    world.sql(&row(1, "-1 second")).await;
    world.store(json!({"defaultTimeout": "1h"})).await;
    proxies.api.gate.set(Mode::Away);
    let operator = world.operator();
    proxies.api.gate.turned_away(4).await;
    assert_eq!(world.status(1).await, "running", "which table, and by which rules, nobody said");
    proxies.api.gate.set(Mode::Open);
    world.store_until(&operator, failed_one).await;
    told_once(&world, &operator, &proxies).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_api_server_breaks_every_connection_and_nothing_else() {
    let (world, proxies, operator) = at_work("restart").await;
    world.sql(&row(1, "30 minutes")).await;
    world.execution("e", "1", json!({"timeout": "72h"})).await;
    world.execution_until(&operator, "e", |s| s.timeout.as_deref() == Some("3d")).await;
    proxies.api.gate.set(Mode::Away);
    proxies.api.gate.turned_away(2).await;
    // A change through another API server is noticed afterwards.
    world.execution("e", "1", json!({"timeout": "1m"})).await;
    proxies.api.gate.set(Mode::Open);
    proxies.row_until(&world, 1, "failed").await;
    world
        .execution_until(&operator, "e", |s| is(&s.conditions, "Succeeded", "False", "DeadlineExceeded"))
        .await;
    told_once(&world, &operator, &proxies).await;

    proxies.api.gate.cut();
    world.store(json!({"defaultTimeout": "1h", "mode": "Observe"})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Observing")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_deadline_waits_for_an_api_server_that_says_nothing() {
    let (world, proxies, operator) = at_work("silent").await;
    // Counted first: a request in progress at that moment may be the one that hangs.
    let tries = proxies.api.count("PATCH");
    proxies.api.gate.set(Mode::Silent);
    world.sql(&row(1, "1 second")).await;
    deadlines_are_met_while_it_hangs(world, proxies, operator, "PATCH", tries).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_for_one_that_does_not_say_which_workloads_there_are() {
    let (world, proxies, operator) = at_work_with("unlisted", json!({"workloads": {}})).await;
    proxies.api.asked(1, "/jobs?").await;
    let tries = proxies.api.count("/jobs?");
    proxies.api.gate.set(Mode::Silent);
    deadlines_are_met_while_it_hangs(world, proxies, operator, "/jobs?", tries).await;
}

/// Waits for a request that contains the text, and checks that no deadline waits for its end.
async fn deadlines_are_met_while_it_hangs(
    world: World,
    proxies: Proxies,
    operator: Operator,
    text: &str,
    mut tries: usize,
) {
    // On a machine that stalls for seconds, a request may be given up just then: the next one is used instead.
    for id in 2..6 {
        proxies.api.asked(tries + 1, text).await;
        tries = proxies.api.count(text);
        let given_up = proxies.api.given_up();
        // While that request hangs.
        world.sql(&row(id, "1 second")).await;
        proxies.row_until(&world, id, "failed").await;
        if proxies.api.given_up() == given_up {
            return stop(operator);
        }
    }
    panic!("requests were waited for\n{}", operator.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_database_is_connected_again_without_an_api_server() {
    let (world, proxies, operator) = at_work("reconnect").await;
    proxies.api.gate.set(Mode::Silent);
    proxies.database.set(Mode::Away);
    proxies.database.turned_away(2).await;
    proxies.database.set(Mode::Open);
    // With the content of the Secret from when it could be read.
    world.sql(&row(1, "0 seconds")).await;
    proxies.row_until(&world, 1, "failed").await;
    stop(operator);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_was_silent_is_told_when_it_speaks_again() {
    let (world, proxies, operator) = at_work("mute").await;
    proxies.api.gate.set(Mode::Silent);
    world.sql(&row(1, "0 seconds")).await;
    proxies.row_until(&world, 1, "failed").await;
    proxies.reads(6).await;
    proxies.api.gate.cut();
    proxies.api.gate.set(Mode::Open);
    world.store_until(&operator, failed_one).await;
    told_once(&world, &operator, &proxies).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_api_server_only_hears_of_things_later() {
    let (world, proxies, operator) = at_work("slow").await;
    proxies.api.gate.set(Mode::Slow(std::time::Duration::from_millis(700)));
    world.sql(&row(1, "1 second")).await;
    proxies.row_until(&world, 1, "failed").await;
    world.store_until(&operator, failed_one).await;
    told_once(&world, &operator, &proxies).await;
    stop(operator);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_throttles_is_asked_less_often() {
    let (world, proxies, operator) = at_work("throttled").await;
    proxies.api.answer(|request| request.method != "GET", Canned::throttled(1));
    world.sql(&row(1, "0 seconds")).await;
    proxies.row_until(&world, 1, "failed").await;
    proxies.api.answered(3).await;
    // The table is read meanwhile.
    proxies.reads(4).await;
    proxies.api.answer_no_more();
    world.store_until(&operator, failed_one).await;
    told_once(&world, &operator, &proxies).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_has_expired_begins_anew() {
    let (world, proxies, operator) = at_work("expired").await;
    world.sql(&row(1, "30 minutes")).await;
    proxies.api.answer(watch, Canned::expired());
    proxies.api.gate.cut();
    proxies.api.answered(2).await;
    world.execution("e", "1", json!({"timeout": "1m"})).await;
    proxies.api.answer_no_more();
    proxies.row_until(&world, 1, "failed").await;
    world.store_until(&operator, failed_one).await;
    told_once(&world, &operator, &proxies).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_that_meets_a_conflict_is_written_later() {
    let (world, proxies, operator) = at_work("conflict").await;
    let conflict = Canned::refusal(409, "Conflict", "the object has been modified");
    proxies.api.answer(status_of_store, conflict);
    world.sql(&row(1, "0 seconds")).await;
    proxies.row_until(&world, 1, "failed").await;
    let (reads, tries) = (proxies.writes.passed().reads, proxies.api.count("executionstores/jobs/status"));
    proxies.reads(15).await;
    let looked = proxies.writes.passed().reads - reads;
    let tried = proxies.api.count("executionstores/jobs/status") - tries;
    assert!(tried <= looked, "{tried} tries while it looked {looked} times");
    let events = world.events().await;
    let early = events.iter().any(|e| e.reason.as_deref() == Some("StaleExecutionsFailed"));
    assert!(!early, "an Event only once the status is written");
    proxies.api.answer_no_more();
    world.store_until(&operator, failed_one).await;
    told_once(&world, &operator, &proxies).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_on_events_holds_up_nothing_else() {
    let (world, proxies, operator) = at_work("quota").await;
    let event = |request: &Parts| request.method == "POST" && request.uri.path().ends_with("/events");
    proxies.api.answer(
        event,
        Canned::refusal(403, "Forbidden", "events \"x\" is forbidden: exceeded quota: events"),
    );
    world.sql(&row(1, "0 seconds")).await;
    world.execution("e", "1", json!({})).await;
    world.store_until(&operator, failed_one).await;
    world
        .execution_until(&operator, "e", |s| is(&s.conditions, "Succeeded", "False", "DeadlineExceeded"))
        .await;
    let tries = proxies.api.count("POST");
    let reads = proxies.writes.passed().reads;
    proxies.api.asked(tries + 2, "POST").await;
    proxies.reads(10).await;
    let tried = proxies.api.count("POST") - tries;
    let looked = proxies.writes.passed().reads - reads;
    assert!(tried <= looked, "{tried} tries while it looked {looked} times");
    // The status is updated even while Events are refused.
    world.sql(&row(2, "30 minutes")).await;
    world.store_until(&operator, |s| s.metrics.as_ref().is_some_and(|m| m.running_executions == 1)).await;

    proxies.api.answer_no_more();
    told_once(&world, &operator, &proxies).await;
    let untold: i64 = world.one("SELECT count(*) FROM jobexec.sweeps WHERE announced_at IS NULL").await;
    assert_eq!(untold, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_watch_is_stale_the_last_known_rules_hold() {
    let (world, proxies, operator) = at_work("stale").await;
    // Stale except for the timeout of its object.
    world.execution("e", "1", json!({"timeout": "72h"})).await;
    world.execution_until(&operator, "e", |s| is(&s.conditions, "Bound", "False", "RowNotFound")).await;
    world.sql(&row(1, "-1 hour")).await;
    world.execution_until(&operator, "e", |s| s.timeout.as_deref() == Some("3d")).await;
    proxies.api.go_stale();
    world.execution("e", "1", json!({"timeout": "1h"})).await;
    world.sql(&row(2, "0 seconds")).await;
    proxies.row_until(&world, 2, "failed").await;
    proxies.reads(10).await;
    assert_eq!(world.status(1).await, "running");
    proxies.api.recover();
    proxies.row_until(&world, 1, "failed").await;
    let source: String = world.one("SELECT source FROM jobexec.events WHERE execution_id = '1'").await;
    assert_eq!(source, "JobExecution/e");
    world
        .execution_until(&operator, "e", |s| is(&s.conditions, "Succeeded", "False", "DeadlineExceeded"))
        .await;
}
